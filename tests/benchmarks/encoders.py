"""Encoders of the benchmark by name, and a masked-LM head for checkpoints without one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

#: Vocabulary size of google-bert/bert-base-cased. Weights are random, and ids stand for other words.
_BERT_BASE_VOCABULARY = 28_996


def encoder_settings(name: str, folder: Path, texts: list[str]) -> dict[str, Any]:
    """Return the `encoder:` entry of a job file for the value of `--encoder`.

    Args:
        name: `toy` (as in the quickstart), `bert-base-random` (dimensions of bert-base, random weights) or a model folder.
        folder: an empty folder for a model that is created here.
        texts: training texts for the tokenizer of bert-base-random.
    """
    if name == "toy":
        return {"scratch": {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}}
    if name == "bert-base-random":
        _bert_base(folder, texts)
        return {"model": str(folder)}
    if _has_masked_lm_head(Path(name)):
        return {"model": name}
    _add_masked_lm_head(Path(name), folder)
    return {"model": str(folder)}


def _bert_base(folder: Path, texts: list[str]) -> None:
    import torch
    from transformers import BertConfig, BertForMaskedLM

    from ftjobs.jobfile.fields import Scratch
    from ftjobs.models import scratch

    torch.manual_seed(0)
    tokenizer = scratch.tokenizer_from_texts(texts, Scratch(vocab_size=8_000))
    tokenizer.model_max_length = 512
    BertForMaskedLM(BertConfig(vocab_size=_BERT_BASE_VOCABULARY)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _has_masked_lm_head(folder: Path) -> bool:
    with safe_open(folder / "model.safetensors", framework="pt") as weights:
        return any(name.startswith(("cls.", "lm_head.", "vocab_", "predictions.")) for name in weights.keys())  # noqa: SIM118


def _add_masked_lm_head(source: Path, folder: Path) -> None:
    """Save a copy with a masked-LM head, so that all sides start from the same one: random, with a tied decoder."""
    import torch

    from ftjobs.models import checkpoints, heads

    torch.manual_seed(0)
    model, _ = heads.load_masked_lm(source)
    heads.save(model, checkpoints.load_tokenizer(source), folder, heads.extra_weights(model, source))
