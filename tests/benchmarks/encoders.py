"""The encoders that the yardstick knows by name, and an encoder's missing masked-LM head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import safe_open

#: Of google-bert/bert-base-cased; its weights are random here, and so is which words its ids stand for.
_BERT_BASE_VOCABULARY = 28_996


def encoder_settings(name: str, folder: Path, texts: list[str]) -> dict[str, Any]:
    """The `encoder:` of a job file for what `--encoder` names.

    Args:
        name: `toy` (the quick start's, made on the spot), `bert-base-random` (bert-base's dimensions, random weights)
            or a model folder.
        folder: an empty folder for a model that is made here.
        texts: what the tokenizer of bert-base-random is learned from.
    """
    if name == "toy":
        return {"scratch": {"vocab_size": 600, "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4}}
    if name == "bert-base-random":
        _bert_base(folder, texts)
        return {"model": str(folder)}
    if _has_masked_lm_head(Path(name)):
        return {"model": name}
    _give_masked_lm_head(Path(name), folder)
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


def _give_masked_lm_head(source: Path, folder: Path) -> None:
    """Both sides start from the same head: random, but for the decoder, which is tied to the embeddings."""
    import torch

    from ftjobs.models import checkpoints, heads

    torch.manual_seed(0)
    model, _ = heads.load_masked_lm(source)
    heads.save(model, checkpoints.load_tokenizer(source), folder, heads.weights_beyond(model, source))
