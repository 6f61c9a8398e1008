"""`status --watch`: what a terminal shows, what a log file gets, and when it ends."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ftjobs.cli import watching
from ftjobs.errors import FtjobsError
from ftjobs.execution.heartbeat import Heartbeat
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.cli.test_cli import ftjobs, here, publish  # noqa: F401 (fixtures)


def row(stage: str, seed: int | None, state: str, **more: Any) -> dict[str, Any]:
    fields = {"result": None, "accuracy": None, "perplexity": None, "waits_for": ["prepare"] * (state == "waiting")}
    if state == "running":
        fields |= {"step": 0, "total": 0, "rate": None, "elapsed": 3.0, "age": 1.0, "figures": {}}
    return {"stage": stage, "seed": seed, "state": state, **fields, **more}


ROWS = [
    row("prepare", None, "published", result="508,368 bytes"),
    row("adapt", 1, "published", result="perplexity 30.0 -> 7.3", perplexity=7.26),
    row("adapted-behavioural", 1, "published", result="accuracy 0.9000 in epoch 2", accuracy=0.90),
    row("adapted-behavioural", 2, "published", result="accuracy 0.9200 in epoch 3", accuracy=0.92),
    row(
        *("adapted-behavioural", 3, "running"),
        step=1200,
        total=2840,
        rate=41.0,
        elapsed=75.0,
        figures={"train/loss": 0.51234, "eval/test/accuracy": 0.81, "epoch": 2.0},
    ),
    row("head", 1, "failed", error="the loss is nan [bold]or not[/bold]\x1b[2J\nTraceback", age=5.0),
    row("report", None, "waiting"),
]


def shown(rows: list[dict[str, Any]], width: int) -> str:
    console = Console(width=width, height=50, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(watching.view("trial", rows, console))
    return captured.get()


@pytest.mark.parametrize("width", [80, 140])
def test_a_terminal_shows_stages_seeds_progress_and_why_something_failed(width: int) -> None:
    text = shown(ROWS, width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    assert lines[0] == "trial  4 of 7 published, 1 running, 1 failed, 1 waiting"
    stages = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[3:8]}
    assert stages["prepare"] == "✓ 508,368 bytes"
    assert stages["adapt"] == "✓1 perplexity 30.0 -> 7.3"
    assert stages["adapted-behavioural"] == "✓1 ✓2 ▶3 accuracy 91.00 ± 1.41, 2 seeds"
    assert stages["head"] == "✗1"
    assert stages["report"] == "·"
    running = next(line for line in lines if line.startswith("adapted-behavioural seed 3"))
    assert "1,200/2,840" in running
    assert "0:00:39" in running  # 1,640 steps at 41 a second, less the second since the sign
    assert ("41.0  0:01:15" in running) == (width == 140)
    assert "loss 0.51" in running
    assert r"head seed 1 failed: the loss is nan [bold]or not[/bold]\x1b[2J" in lines
    assert "\x1b[2J" not in text


def test_who_is_silent_is_said_to_be() -> None:
    text = shown([row("head", 1, "running", step=10, total=100, rate=2.0, age=90.0)], 120)
    assert "no sign of life for 90 s" in text
    assert "10/100" in text


def test_a_stage_that_has_not_begun_to_train_is_starting() -> None:
    assert "starting" in shown([row("head", 1, "running")], 80)


def test_it_ends_when_all_is_published_or_when_nothing_goes_on_after_a_failure() -> None:
    published, failed = row("a", 1, "published"), row("b", 1, "failed", error="the loss is nan", age=1.0)
    running, ready = row("c", 1, "running"), row("d", 1, "ready")
    assert watching.ended([published, published])
    assert not watching.ended([published, ready])  # somebody may start it
    assert not watching.ended([published, failed, running])
    for others in ([], [ready], [{**running, "age": 61.0}]):
        with pytest.raises(FtjobsError, match=r"^b seed 1 has failed: the loss is nan$"):
            watching.ended([published, failed, *others])


def test_a_log_file_gets_a_line_for_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(done: int) -> dict[str, Any]:
        return row("adapt", 1, "running", step=done, total=100)

    looks = [
        [row("adapt", 1, "ready")],
        [row("adapt", 1, "ready")],
        [step(1)],
        [step(5)],
        [step(12)],
        [row("adapt", 1, "published", result="perplexity 9.0 -> 2.0")],
    ]
    monkeypatch.setattr(watching, "_SECONDS_BETWEEN_LOOKS", 0.0)
    written = io.StringIO()
    watching.watch("trial", lambda: looks.pop(0), Console(file=written, width=20))
    assert written.getvalue().splitlines() == [
        "adapt seed 1: ready",
        "adapt seed 1: running, step 1 of 100, last sign of life 1 s ago",
        "adapt seed 1: running, step 12 of 100, last sign of life 1 s ago",
        "adapt seed 1: published, perplexity 9.0 -> 2.0",
    ]


def test_a_terminal_is_drawn_anew_until_all_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [
        [row("adapt", 1, "running", step=5, total=100)],
        [row("adapt", 1, "running", step=60, total=100)],
        [row("adapt", 1, "published", result="perplexity 9.0 -> 2.0")],
    ]
    monkeypatch.setattr(watching, "_SECONDS_BETWEEN_LOOKS", 0.0)
    written = io.StringIO()
    watching.watch("trial", lambda: looks.pop(0), Console(file=written, width=100, force_terminal=True))
    text = written.getvalue()
    assert "\x1b[1A" in text, "goes back up to draw over what it drew"
    assert text.index("5/100") < text.index("60/100") < text.index("perplexity 9.0 -> 2.0")
    assert "1 of 1 published" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_below_a_log_it_is_drawn_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """And a store that does not answer for a while changes nothing."""
    monkeypatch.setattr(watching, "_SECONDS_BETWEEN_LOOKS", 0.01)
    looks = [[row("adapt", 1, "running", step=5, total=100)]]

    def look() -> list[dict[str, Any]]:
        if not looks:
            raise FtjobsError("no answer")
        return looks.pop()

    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=terminal)
    with watching.below_the_log("trial", look, console):
        console.print("a line of the log")
        time.sleep(0.1)
    text = written.getvalue()
    if terminal:
        assert text.index("a line of the log") < text.rindex("5/100")
    else:
        assert text == "a line of the log\n"


def test_the_command_ends_with_0_or_1(ftjobs: Any, here: Path) -> None:  # noqa: F811
    publish("prepare", "adapt")
    storage = open_storage("runs")
    with pytest.raises(FtjobsError), Heartbeat(storage, select(plan(read(Path("job.yaml"))), "head", 2)):
        raise FtjobsError("the loss is nan")
    found = ftjobs("status", "job.yaml", "--watch")
    assert found.exit_code == 1
    assert found.stderr == "error: head seed 2 has failed: the loss is nan\n"
    assert "head seed 2: failed, the loss is nan" in found.stdout
    publish("head", "report")
    assert ftjobs("status", "job.yaml", "--watch").exit_code == 0


def test_ctrl_c_ends_it_without_a_word(here: Path) -> None:  # noqa: F811
    command = [sys.executable, "-m", "ftjobs", "status", "job.yaml", "--watch"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in the background
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "prepare: ready\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "")
