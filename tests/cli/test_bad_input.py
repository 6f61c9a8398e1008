"""Invalid input on the command line: exit code 2, one error line, no traceback, an empty store."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts, cli
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET, READER_ACCESS_KEY, READER_SECRET_KEY, S3Server
from tests.helpers.pipelines import job_fields, write_rows


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    """Run `ftjobs ARGUMENTS` in this process; returns the exit code and the error lines."""
    monkeypatch.setattr(sys, "argv", ["ftjobs", *arguments])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.out == ""
    return stopped.value.code, [line for line in captured.err.splitlines() if line.startswith("error: ")]


def with_rows(*lines: str) -> Callable[[Path], None]:
    """Replace the rows by these csv lines under the expected header."""
    text = "\n".join(["question,answer,topic", *lines]) + "\n"
    return lambda folder: (folder / "rows.csv").write_text(text)


def cell(row: int, column: int, value: str) -> Callable[[Path], None]:
    """Put a value into one cell of the rows."""

    def change(folder: Path) -> None:
        lines = (folder / "rows.csv").read_text().splitlines()
        cells = lines[row].split(",")
        cells[column] = value
        lines[row] = ",".join(cells)
        (folder / "rows.csv").write_text("\n".join(lines) + "\n")

    return change


def append(content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / "rows.csv").write_bytes((folder / "rows.csv").read_bytes() + content)


def write(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def field(dotted: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a field of the job."""

    def change(fields: dict[str, Any]) -> None:
        *parents, last = dotted.split(".")
        for parent in parents:
            fields = fields[parent]
        fields[last] = value

    return change


def cycle(fields: dict[str, Any]) -> None:
    fields["stages"]["adapt"]["encoder"] = "adapted-head"


# A change, and parts of the error line: place, value, remedy.
JOB_FILE = [
    (field("stages.head.epoch", 3), ["job.yaml:", "stages.head.epoch", "unknown key", "did you mean `epochs`?"]),
    (field("stages.head.epochs", "three"), ["job.yaml:", "stages.head.epochs", "whole number", "'three'"]),
    (field("stages.head.freeze_encoder", "yes"), ["stages.head.freeze_encoder", "true or false", "'yes'"]),
    (cycle, ["job.yaml:", "adapt", "adapted-head", " -> "]),
    (field("stages.head.encoder", "adpt"), ["stages.head.encoder", "no stage `adpt`", "did you mean `adapt`?"]),
    (field("data.source", "absent.csv"), ["absent.csv", "looked at", "relative to the job file"]),
    (field("data.text", ["question", "anser"]), ["rows.csv", "'anser'", "did you mean 'answer'?"]),
    (field("data.label", "class"), ["rows.csv", "'class'", "columns: 'question', 'answer', 'topic'"]),
    (field("encoder.model", "./absent"), ["absent", "is not a folder", "hub id"]),
    (field("name", "My Job"), ["name", "lower-case letters, digits and dashes", "'My Job'"]),
]
FILES = [
    (remove("rows.csv"), ["rows.csv", "there is no file", "check the path"]),
    (write("rows.csv", b""), ["rows.csv", "empty"]),
    (write("rows.csv", b"question,answer,topic\n"), ["rows.csv", "only a header row", "add rows"]),
    (with_rows(*(f"q {i},a {i},cold" for i in range(30))), ["'cold'", "2 classes"]),
    (cell(7, 2, ""), ["rows.csv", "'topic'", "in 1 of 90 rows", "line 8", "fill in or remove"]),
    (cell(9, 0, "  "), ["rows.csv", "'question'", "in 1 of 90 rows", "line 10", "fill in or remove"]),
    (append(b"one,two\n"), ["rows.csv", "line 92", "2 cell(s)", "3 columns"]),
    (append(b"one,two,cold,more\n"), ["rows.csv", "line 92", "4 cell(s)", "3 columns"]),
    (append(b"caf\xe9,two,cold\n"), ["rows.csv", "line 92", "UTF-8"]),
    (write("encoder/config.json", b"{"), ["config.json", "no readable model configuration"]),
    (remove("encoder/config.json"), ["encoder", "not a checkpoint", "config.json"]),
    (remove("encoder/model.safetensors"), ["encoder", "has no weights"]),
    (write("encoder/model.safetensors", b"\x00" * 100), ["model.safetensors", "no readable weights"]),
]


@pytest.fixture
def folder(make_encoder: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "encoder").mkdir()
    for file in make_encoder("bert", "mlm").iterdir():
        (tmp_path / "encoder" / file.name).write_bytes(file.read_bytes())
    write_rows(tmp_path / "rows.csv")
    return tmp_path


def check(code: int, errors: list[str], expected: list[str], folder: Path) -> None:
    assert code == 2
    assert len(errors) == 1, errors
    for part in expected:
        assert part in errors[0]
    assert not (folder / "store").exists()


@pytest.mark.parametrize(("spoil", "expected"), JOB_FILE)
def test_invalid_job_file_is_one_error_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[dict[str, Any]], None],
    expected: list[str],
) -> None:
    fields = json.loads(json.dumps(job_fields(folder / "encoder")))
    spoil(fields)
    (folder / "job.yaml").write_text(json.dumps(fields, indent=1))
    code, errors = run(monkeypatch, capsys, "run", str(folder / "job.yaml"), "--store", str(folder / "store"))
    check(code, errors, expected, folder)


@pytest.mark.parametrize(("spoil", "expected"), FILES)
def test_invalid_data_or_encoder_is_one_error_line(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spoil: Callable[[Path], None],
    expected: list[str],
) -> None:
    (folder / "job.yaml").write_text(json.dumps(job_fields(folder / "encoder")))
    spoil(folder)
    code, errors = run(monkeypatch, capsys, "run", str(folder / "job.yaml"), "--store", str(folder / "store"))
    check(code, errors, expected, folder)


def test_unknown_stage_is_one_error_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "job.yaml").write_text(json.dumps(job_fields(folder / "encoder")))
    store = str(folder / "store")
    code, errors = run(monkeypatch, capsys, "stage", str(folder / "job.yaml"), "hed", "--store", store)
    check(code, errors, ["no stage `hed`", "the stages are: prepare, adapt, head"], folder)


def test_encoder_without_mask_token_fails_adaptation(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error occurs after the first stage: its artifact stays, and `status` shows the error of the second."""
    config = json.loads((folder / "encoder/tokenizer_config.json").read_text())
    (folder / "encoder/tokenizer_config.json").write_text(json.dumps({**config, "mask_token": None}))
    (folder / "job.yaml").write_text(json.dumps(job_fields(folder / "encoder")))
    code, errors = run(monkeypatch, capsys, "run", str(folder / "job.yaml"), "--store", str(folder / "store"))
    assert code == 2
    (error,) = errors
    assert error.startswith("error: objective: mlm ")
    assert "mask token" in error
    written = [path.relative_to(folder / "store/toy").as_posix() for path in (folder / "store").rglob("*.json")]
    assert [path.split("/")[0] for path in written if path.endswith("manifest.json")] == ["prepare"]
    assert [path.split("/")[-1] for path in written if path.startswith("adapt/")] == ["failed.json"]  # for `status`


def test_user_error_of_pod_is_stored_for_the_controller(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write("rows.csv", b"question,answer\na,b\n")(folder)
    (folder / "job.yaml").write_text(json.dumps(job_fields(folder / "encoder")))
    stage = ("stage", str(folder / "job.yaml"), "prepare", "--store", str(folder / "store"))
    code, errors = run(monkeypatch, capsys, *stage)
    check(code, errors, ["topic"], folder)
    assert run(monkeypatch, capsys, *stage, "--seed-index", "0") == (2, errors)
    (record,) = (folder / "store").rglob("*.json")
    assert f"error: {json.loads(record.read_text())['error']}" == errors[0]


@pytest.mark.parametrize("command", ["run", "stage prepare", "stage adapt"])
@pytest.mark.parametrize(
    ("variables", "store", "expected"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, BUCKET, ["AWS_SECRET_ACCESS_KEY"]),
        ({"AWS_ACCESS_KEY_ID": "nobody"}, BUCKET, ["AWS_ACCESS_KEY_ID"]),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, BUCKET, ["no credentials", "AWS_ACCESS_KEY_ID"]),
        ({}, "no-such-bucket", ["no such bucket"]),
        (
            {"AWS_ACCESS_KEY_ID": READER_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET_KEY},
            BUCKET,
            ["not allowed", "s3:PutObject"],
        ),
    ],
)
def test_unusable_object_storage_is_one_error_line(
    folder: Path,
    s3: S3Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str | None],
    store: str,
    expected: list[str],
    command: str,
) -> None:
    """The error occurs before any work, even if the inputs are published."""
    (folder / "job.yaml").write_text(json.dumps(job_fields(folder / "encoder")))
    if command == "stage adapt":
        prepare = plan(read(folder / "job.yaml"))[0]
        (folder / "output").mkdir()
        artifacts.publish(open_storage(f"s3://{BUCKET}/{folder.name}"), prepare, folder / "output", {}, {})
    for name, value in variables.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    monkeypatch.setattr(runner, "_produce", lambda *_: pytest.fail("a stage was run"))
    verb, *stage = command.split()
    arguments = [str(folder / "job.yaml"), *stage, "--store", f"s3://{store}/{folder.name}"]
    code, errors = run(monkeypatch, capsys, verb, *arguments)
    assert code == 2
    assert len(errors) == 1, errors
    assert all(part in errors[0] for part in expected), errors
