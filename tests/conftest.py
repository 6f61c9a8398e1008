"""Tiny random encoders of every family, built on the spot: no network, no downloads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that reaches for the hub fails at once
if "PYTEST_XDIST_WORKER" in os.environ:  # PyTorch's threads wait by spinning: more of them than cores cost dearly
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from ftjobs.progress import LOG
from tests.hub_stand_in import hub  # noqa: F401 (a fixture)
from tests.s3_server import s3, s3_server  # noqa: F401 (fixtures)
from tests.wandb_server import wandb_server  # noqa: F401 (a fixture)

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"
WORDS = (
    "the a my is it can i take with for how what does pain fever dose pill doctor head stomach cold flu test blood "
    "sugar heart skin rash sleep water food baby old child week day high low safe drug cause help long after before"
).split()
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
FAMILIES = ("bert", "roberta", "distilbert", "electra", "albert", "deberta-v2", "modernbert")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the development data where it is absent."""
    if SHARED.is_dir():
        return
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(pytest.mark.skip(reason="../shared is not there"))


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A command that runs in the test's process sends the log to a stderr that is gone afterwards."""
    before = LOG.handlers, LOG.propagate, LOG.level
    yield
    LOG.handlers, LOG.propagate = before[0], before[1]
    LOG.setLevel(before[2])


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with development data; only for tests marked `shared`."""
    return SHARED


def tiny_config(family: str, vocab_size: int) -> Any:
    """A configuration of a family at toy size, with dropout as the family has it."""
    import transformers

    match family:
        case "distilbert":
            sizes = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 64}
            return transformers.DistilBertConfig(vocab_size=vocab_size, **sizes)
        case "electra" | "albert":
            config = {"electra": transformers.ElectraConfig, "albert": transformers.AlbertConfig}[family]
            return config(vocab_size=vocab_size, embedding_size=16, **SIZES)
        case "deberta-v2":
            return transformers.DebertaV2Config(
                vocab_size=vocab_size,
                relative_attention=True,
                position_biased_input=False,
                pos_att_type=["p2c", "c2p"],
                norm_rel_ebd="layer_norm",
                share_att_key=True,
                **SIZES,
            )
        case "modernbert":
            ids = {"pad_token_id": 0, "cls_token_id": 2, "bos_token_id": 2, "sep_token_id": 3, "eos_token_id": 3}
            return transformers.ModernBertConfig(vocab_size=vocab_size, **ids, **SIZES)
        case "roberta":
            sizes = SIZES | {"max_position_embeddings": 65}  # positions start behind the padding index, which is 0
            return transformers.RobertaConfig(vocab_size=vocab_size, pad_token_id=0, type_vocab_size=2, **sizes)
        case "bert":
            return transformers.BertConfig(vocab_size=vocab_size, **SIZES)
    raise AssertionError(family)


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_encoder(family="bert", head="base")`: a folder with a random checkpoint and a WordPiece tokenizer.

    `head` is `base` (the bare encoder, with its pooler where the family has one), `mlm` or `pretraining`. Options are
    set on the configuration.
    """
    made: dict[Any, Path] = {}

    def make(family: str = "bert", head: str = "base", **options: Any) -> Path:
        import torch
        from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining, BertTokenizer

        key = (family, head, tuple(sorted(options.items())))
        if key not in made:
            specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
            entries = specials + WORDS + [letter for letter in letters if letter not in WORDS]
            entries += [f"##{letter}" for letter in letters]
            tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(entries)}, model_max_length=64)
            config = tiny_config(family, len(tokenizer))
            for name, value in options.items():
                setattr(config, name, value)
            if family in ("distilbert", "roberta", "modernbert"):
                tokenizer.model_input_names = ["input_ids", "attention_mask"]
            auto_class = {"base": AutoModel, "mlm": AutoModelForMaskedLM, "pretraining": AutoModelForPreTraining}[head]
            torch.manual_seed(7)
            folder = tmp_path_factory.mktemp(f"{family}-{head}")
            auto_class.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make
