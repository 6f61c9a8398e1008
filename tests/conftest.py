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

from ftjobs.system.progress import LOG
from tests.fakes.hub import hub  # noqa: F401 (a fixture)
from tests.fakes.s3_server import s3, s3_server  # noqa: F401 (fixtures)
from tests.fakes.wandb_server import wandb_server  # noqa: F401 (a fixture)
from tests.helpers import gpus
from tests.helpers.families import tiny_config, tiny_tokenizer

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs the development data, or a GPU, where it is absent."""
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("../shared is not there")
    if item.get_closest_marker("gpu") and not gpus.are_there():
        pytest.skip("no GPU that PyTorch can use")


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


@pytest.fixture(scope="session")
def make_encoder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_encoder(family="bert", head="base")`: a folder with a random checkpoint and a tokenizer of the family's kind.

    `head` is `base` (the bare encoder, with its pooler where the family has one), `mlm` or `pretraining`. Options are
    set on the configuration.
    """
    made: dict[Any, Path] = {}

    def make(family: str = "bert", head: str = "base", **options: Any) -> Path:
        import torch
        from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

        key = (family, head, tuple(sorted(options.items())))
        if key not in made:
            tokenizer = tiny_tokenizer(family)
            config = tiny_config(family, tokenizer)
            for name, value in options.items():
                setattr(config, name, value)
            auto_class = {"base": AutoModel, "mlm": AutoModelForMaskedLM, "pretraining": AutoModelForPreTraining}[head]
            torch.manual_seed(7)
            folder = tmp_path_factory.mktemp(f"{family}-{head}")
            auto_class.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make
