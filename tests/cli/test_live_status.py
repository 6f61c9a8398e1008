"""`ftjobs status --watch`: the view on a terminal, the lines in a log file, and the exit code."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ftjobs.cli import live_status
from ftjobs.errors import FtjobsError
from ftjobs.execution.heartbeat import FailedAttempt, Heartbeat, RunningAttempt
from ftjobs.execution.status import StageStatus
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.helpers.commands import CommandResult, publish
from tests.helpers.messages import mentions


def status(stage: str, seed: int | None, state: str, **fields: Any) -> StageStatus:
    waits_for = ["prepare"] if state == "waiting" else []
    return StageStatus(stage, seed, state, waits_for, "0123456789ab", **fields)


def running(stage: str, seed: int, **fields: Any) -> StageStatus:
    progress = {"step": 0, "total": 0, "rate": None, "elapsed": 3.0, "figures": {}, "age": 1.0}
    return status(stage, seed, "running", running=RunningAttempt(**progress | fields))


def failed(stage: str, seed: int, error: str) -> StageStatus:
    return status(stage, seed, "failed", failed=FailedAttempt(5.0, error))


STATUSES = [
    status("prepare", None, "published", result="508,368 bytes"),
    status("adapt", 1, "published", result="perplexity 30.0 -> 7.3", perplexity=7.26),
    status("adapted-behavioural", 1, "published", result="accuracy 0.9000 in epoch 2", accuracy=0.90),
    status("adapted-behavioural", 2, "published", result="accuracy 0.9200 in epoch 3", accuracy=0.92),
    running(
        *("adapted-behavioural", 3),
        step=1200,
        total=2840,
        rate=41.0,
        elapsed=75.0,
        figures={"train/loss": 0.51234, "eval/test/accuracy": 0.81, "epoch": 2.0},
    ),
    failed("head", 1, "the loss is nan [bold]or not[/bold]\x1b[2J\nTraceback"),
    status("report", None, "waiting"),
]


def rendered(statuses: list[StageStatus], width: int) -> str:
    console = Console(width=width, height=50, file=io.StringIO(), force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(live_status.render("trial", statuses, console))
    return captured.get()


@pytest.mark.parametrize("width", [80, 140])
def test_view_has_stages_seeds_progress_and_errors(width: int) -> None:
    text = rendered(STATUSES, width)
    lines = [line.rstrip() for line in text.splitlines()]
    assert max(map(len, lines)) <= width
    assert mentions(lines[0], "trial  ", "4 of 7 published", "1 running", "1 failed", "1 waiting")
    stages = {line.split()[0]: " ".join(line.split()[1:]) for line in lines[3:8]}
    assert stages["prepare"] == "✓ 508,368 bytes"
    assert stages["adapt"] == "✓1 perplexity 30.0 -> 7.3"
    assert stages["adapted-behavioural"] == "✓1 ✓2 ▶3 accuracy 91.00 ± 1.41, 2 seeds"
    assert stages["head"] == "✗1"
    assert stages["report"] == "·"
    progress = next(line for line in lines if line.startswith("adapted-behavioural seed 3"))
    assert "1,200/2,840" in progress
    assert "0:00:39" in progress  # 1,640 steps at 41 per second, minus the second since the heartbeat
    assert ("41.0  0:01:15" in progress) == (width == 140)
    assert "loss 0.51" in progress
    assert r"head seed 1 failed: the loss is nan [bold]or not[/bold]\x1b[2J" in lines
    assert "\x1b[2J" not in text


def test_view_marks_stale_stages() -> None:
    text = rendered([running("head", 1, step=10, total=100, rate=2.0, age=90.0)], 120)
    assert mentions(text, "no heartbeat", "90 s")
    assert "10/100" in text


def test_view_shows_starting_before_the_first_step() -> None:
    assert "starting" in rendered([running("head", 1)], 80)


def test_watch_ends_when_all_is_published_or_nothing_runs_after_a_failure() -> None:
    published, ready = status("a", 1, "published"), status("d", 1, "ready")
    failure, active = failed("b", 1, "the loss is nan"), running("c", 1)
    assert live_status.is_complete([published, published])
    assert not live_status.is_complete([published, ready])  # may be started later
    assert not live_status.is_complete([published, failure, active])
    for others in ([], [ready], [running("c", 1, age=61.0)]):
        with pytest.raises(FtjobsError) as caught:
            live_status.is_complete([published, failure, *others])
        (problem,) = caught.value.problems
        assert problem.startswith("b seed 1 ")
        assert problem.endswith(": the loss is nan")


def test_log_file_gets_one_line_per_change(monkeypatch: pytest.MonkeyPatch) -> None:
    polls = [
        [status("adapt", 1, "ready")],
        [status("adapt", 1, "ready")],
        *([running("adapt", 1, step=step, total=100)] for step in (1, 5, 12)),
        [status("adapt", 1, "published", result="perplexity 9.0 -> 2.0")],
    ]
    monkeypatch.setattr(live_status, "_REFRESH_SECONDS", 0.0)
    written = io.StringIO()
    live_status.watch("trial", lambda: polls.pop(0), Console(file=written, width=20))
    first, step_1, step_12, last = written.getvalue().splitlines()
    assert first == "adapt seed 1: ready"
    assert step_1.startswith("adapt seed 1: running, step 1 of 100, ")
    assert step_12.startswith("adapt seed 1: running, step 12 of 100, ")
    assert last == "adapt seed 1: published, perplexity 9.0 -> 2.0"


def test_terminal_is_redrawn_until_all_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    polls = [
        [running("adapt", 1, step=5, total=100)],
        [running("adapt", 1, step=60, total=100)],
        [status("adapt", 1, "published", result="perplexity 9.0 -> 2.0")],
    ]
    monkeypatch.setattr(live_status, "_REFRESH_SECONDS", 0.0)
    written = io.StringIO()
    live_status.watch("trial", lambda: polls.pop(0), Console(file=written, width=100, force_terminal=True))
    text = written.getvalue()
    assert "\x1b[1A" in text, "moves the cursor up to draw over the previous view"
    assert text.index("5/100") < text.index("60/100") < text.index("perplexity 9.0 -> 2.0")
    assert "1 of 1 published" in text


@pytest.mark.parametrize("terminal", [True, False])
def test_view_below_the_log_is_drawn_on_terminals_only(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    """A store that does not answer for a while does not change the view."""
    monkeypatch.setattr(live_status, "_REFRESH_SECONDS", 0.01)
    polls = [[running("adapt", 1, step=5, total=100)]]

    def poll() -> list[StageStatus]:
        if not polls:
            raise FtjobsError("no answer")
        return polls.pop()

    written = io.StringIO()
    console = Console(file=written, width=100, force_terminal=terminal)
    with live_status.shown_below_log("trial", poll, console):
        console.print("a log line")
        time.sleep(0.1)
    text = written.getvalue()
    if terminal:
        assert text.index("a log line") < text.rindex("5/100")
    else:
        assert text == "a log line\n"


def test_status_watch_exits_with_1_after_failure_and_0_at_the_end(
    ftjobs: Callable[..., CommandResult], job_folder: Path
) -> None:
    publish("prepare", "adapt")
    storage = open_storage("runs")
    with pytest.raises(FtjobsError), Heartbeat(storage, select(plan(read(Path("job.yaml"))), "head", 2)):
        raise FtjobsError("the loss is nan")
    result = ftjobs("status", "job.yaml", "--watch")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: head seed 2 ")
    assert result.stderr.endswith(": the loss is nan\n")
    assert "head seed 2: failed, the loss is nan" in result.stdout
    publish("head", "report")
    assert ftjobs("status", "job.yaml", "--watch").exit_code == 0


def test_ctrl_c_ends_status_watch_without_message(job_folder: Path) -> None:
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
