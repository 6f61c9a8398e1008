"""Pushing a checkpoint with the real client over HTTP to a fake hub."""

from __future__ import annotations

import logging
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from ftjobs import artifacts, cli
from ftjobs.artifacts import Manifest
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.fakes.hub import Hub
from tests.helpers.commands import JOB
from tests.helpers.messages import mentions

CARD = '---\nlicense: mit\n---\n\n```python\nmodel = "."  # this folder\nprint(model)\n```\n'


@pytest.fixture
def published(tmp_path: Path) -> Manifest:
    """A small artifact of stage `head`, seed 2, in `runs`."""
    (tmp_path / "job.yaml").write_text(JOB)
    return publish(tmp_path, "head", {"README.md": CARD, "model.safetensors": "weights", "config.json": "{}"})


def publish(folder: Path, stage: str, model: dict[str, str], *overrides: str) -> Manifest:
    run = select(plan(read(folder / "job.yaml", overrides)), stage, None if stage == "report" else 2)
    output = folder / "output" / run.identity[:8]
    (output / "model").mkdir(parents=True)
    for name, text in model.items():
        (output / "model" / name).write_text(text)
    (output / "metrics.json").write_text("{}")
    return artifacts.publish(open_storage(str(folder / "runs")), run, output, {}, {})


@pytest.fixture
def push(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Run `ftjobs push` and return its exit code, stdout and stderr. The token may write for `me`."""
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    monkeypatch.delenv("FTJOBS_STORE", raising=False)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ftjobs", "push", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    yield run
    logging.getLogger("ftjobs").handlers.clear()


HEAD = ("job.yaml", "head", "--seed", "2", "--repo", "me/head")


def test_push_uploads_checkpoint_in_one_commit(hub: Hub, push: Any, published: Manifest) -> None:
    code, out, err = push(*HEAD)
    assert code == 0, err
    repo = hub.pushed["me/head"]
    assert not repo.private
    assert len(repo.branches["main"]) == 2
    files = repo.branches["main"][-1]
    assert files.keys() == {".gitattributes", "README.md", "model.safetensors", "config.json"}
    assert files["model.safetensors"] == b"weights"
    assert list(hub.stored.values()) == [b"weights"]  # by the way of large files
    assert repo.messages == [f"small: head seed 2, identity {published.identity[:12]}"]
    assert out == f"{hub.url}/me/head/commit/{repo.sha('main')}\n"
    assert b'\nmodel = "me/head"\n' in files["README.md"]  # there, it is loaded by that name
    assert err == ""
    assert "hf_writer" not in out


def test_push_of_same_files_adds_no_commit(hub: Hub, push: Any, published: Manifest) -> None:
    push(*HEAD)
    code, out, err = push(*HEAD)
    assert code == 0
    assert len(hub.pushed["me/head"].branches["main"]) == 2
    assert published.identity[:12] in err
    assert "nothing changed" in err
    assert out == f"{hub.url}/me/head/commit/{hub.pushed['me/head'].sha('main')}\n"


def test_push_of_another_identity_adds_commit(hub: Hub, push: Any, published: Manifest, tmp_path: Path) -> None:
    push(*HEAD)
    override = "stages.head.epochs=5"
    publish(tmp_path, "head", {"README.md": CARD, "model.safetensors": "others", "config.json": "{}"}, override)
    code, _, err = push(*HEAD, "--set", override)
    assert code == 0, err
    first, second = hub.pushed["me/head"].branches["main"][1:]
    assert {path for path in second if second[path] != first.get(path)} == {"model.safetensors"}


def test_push_accepts_artifact_uri_private_and_branch(hub: Hub, push: Any, published: Manifest, tmp_path: Path) -> None:
    address = str(tmp_path / "runs" / published.folder)
    code, _, err = push(address, "--repo", "me/quiet", "--private", "--revision", "trial/1")
    assert code == 0, err
    repo = hub.pushed["me/quiet"]
    assert repo.private
    assert len(repo.branches["main"]) == 1
    assert "model.safetensors" in repo.branches["trial/1"][-1]
    push(*HEAD)
    code, _, err = push(*HEAD, "--private")
    assert code == 2
    assert mentions(err, "error: me/head: ", "public", "--private")


def test_dry_run_needs_neither_token_nor_hub(
    hub: Hub, push: Any, published: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    code, out, err = push(*HEAD, "--dry-run")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["file", "README.md", "config.json", "model.safetensors"]
    assert "nothing was uploaded" in err
    assert not hub.pushed


@pytest.mark.parametrize(
    ("token", "repo", "code", "message"),
    [
        (None, "me/head", 2, "HF_TOKEN: "),
        ("  ", "me/head", 2, "HF_TOKEN: "),
        ("hf_unknown", "me/head", 2, "me/head: the hub rejects the token in HF_TOKEN"),
        ("hf_reader", "me/head", 2, "me/head: the token in HF_TOKEN has no write access"),
        ("hf_writer", "you/head", 2, "you/head: the token in HF_TOKEN has no write access"),
        ("hf_writer", "head", 2, "--repo head: the owner is missing; give OWNER/NAME"),
        ("hf_writer", "me/he ad", 2, "--repo me/he ad: "),
        ("hf_writer", "me/head\n", 2, r"--repo me/head\n: "),
        ("hf_writer", "me/../x", 2, "--repo me/../x: "),
    ],
)
def test_refused_push_is_a_one_line_error_without_token(
    hub: Hub,
    push: Any,
    published: Manifest,
    monkeypatch: pytest.MonkeyPatch,
    token: str | None,
    repo: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.delenv("HF_TOKEN") if token is None else monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setenv("HF_HOME", "elsewhere")  # a token in a file is not used
    exit_code, out, err = push(*HEAD[:-1], repo)
    assert (exit_code, out) == (code, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert "hf_" not in err
    assert not hub.stored


def test_unreachable_hub_exits_with_code_for_retry(
    hub: Hub, push: Any, published: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.failing = True
    code, out, err = push(*HEAD)
    assert (code, out) == (1, "")
    assert err.startswith("error: me/head: the hub is unreachable (")
    assert err.count("\n") == 1
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{free.getsockname()[1]}")
        code, _, err = push(*HEAD)
    assert code == 1
    assert err.startswith("error: me/head: the hub is unreachable (")


def test_offline_mode_is_reported(hub: Hub, push: Any, published: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    huggingface_hub.close_session()
    code, _, err = push(*HEAD)
    huggingface_hub.close_session()
    assert code == 2
    assert mentions(err, "error: me/head: ", "HF_HUB_OFFLINE", "unset")


def test_hub_without_xet_storage_is_reported_with_remedy(
    hub: Hub, push: Any, published: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", False)
    code, _, err = push(*HEAD)
    assert code == 2
    assert mentions(err, "error: me/head: ", "HF_HUB_DISABLE_XET=1")


def test_invalid_card_metadata_is_reported(hub: Hub, push: Any, published: Manifest, tmp_path: Path) -> None:
    override = "stages.head.epochs=6"
    publish(tmp_path, "head", {"README.md": CARD.replace("mit", "nonsense")}, override)
    code, _, err = push(*HEAD, "--set", override)
    assert code == 2
    assert mentions(err, "error: me/head: ", "Invalid metadata in README.md", "no license")


def test_corrupt_artifact_is_not_pushed(hub: Hub, push: Any, published: Manifest, tmp_path: Path) -> None:
    (tmp_path / "runs" / published.folder / "model/model.safetensors").write_text("weightz")
    code, _, err = push(*HEAD)
    assert code == 1
    assert "another sha256" in err
    assert not hub.pushed


def test_stage_without_model_is_rejected(hub: Hub, push: Any, published: Manifest, tmp_path: Path) -> None:
    publish(tmp_path, "report", {})
    code, _, err = push("job.yaml", "report", "--repo", "me/report")
    assert code == 2
    assert mentions(err, "error: stage `report`", "`prepare`")
    assert not hub.pushed
