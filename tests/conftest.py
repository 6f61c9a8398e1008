"""Fixtures of all tests: fake services, commands, and tiny random encoders, without downloads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a test that contacts the Hub fails at once
if "PYTEST_XDIST_WORKER" in os.environ:  # PyTorch's threads busy-wait: more threads than cores are slow
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from ftjobs.system.progress import LOG
from tests.fakes.hub import hub  # noqa: F401 (a fixture)
from tests.fakes.s3_faults import proxy  # noqa: F401 (a fixture)
from tests.fakes.s3_server import s3, s3_server  # noqa: F401 (fixtures)
from tests.fakes.wandb_server import wandb_server  # noqa: F401 (a fixture)
from tests.helpers import gpus
from tests.helpers.commands import ftjobs, job_folder  # noqa: F401 (fixtures)
from tests.helpers.families import tiny_config, tiny_tokenizer

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests that need the development data or a GPU where these are missing."""
    if item.get_closest_marker("shared") and not SHARED.is_dir():
        pytest.skip("../shared is missing")
    if item.get_closest_marker("gpu") and not gpus.available():
        pytest.skip("no GPU that PyTorch can use")


@pytest.fixture(autouse=True)
def restored_log() -> Iterator[None]:
    """Restore the log after each test: commands send it to a stderr that pytest closes."""
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
    """`make_encoder(family="bert", head="base")` returns a folder with a random checkpoint and a tokenizer of the family.

    `head` is `base` (the bare encoder, with its pooler where the family has one), `mlm` or `pretraining`. Other options
    are set on the configuration.
    """
    encoders: dict[Any, Path] = {}

    def make(family: str = "bert", head: str = "base", **options: Any) -> Path:
        import torch
        from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

        key = (family, head, tuple(sorted(options.items())))
        if key not in encoders:
            tokenizer = tiny_tokenizer(family)
            config = tiny_config(family, tokenizer)
            for name, value in options.items():
                setattr(config, name, value)
            auto_class = {"base": AutoModel, "mlm": AutoModelForMaskedLM, "pretraining": AutoModelForPreTraining}[head]
            torch.manual_seed(7)
            folder = tmp_path_factory.mktemp(f"{family}-{head}")
            auto_class.from_config(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            encoders[key] = folder
        return encoders[key]

    return make
