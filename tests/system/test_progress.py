"""Progress of transfers: periodic log lines in MB, or a progress bar on a terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

import pytest

from ftjobs.artifacts.fetching import transfer_progress
from ftjobs.system import progress


def test_log_file_gets_periodic_lines(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress.LOG, "propagate", True)
    with caplog.at_level("INFO"), transfer_progress("head seed 1: publishing", 440_000_000) as advance:
        for _ in range(4):
            now[0] += 6.0
            advance(20_000_000)
    assert [record.message for record in caplog.records] == [
        "head seed 1: publishing: 40 of 440 MB",
        "head seed 1: publishing: 80 of 440 MB",
    ]


def test_terminal_gets_progress_bar() -> None:
    script = (
        "from ftjobs.artifacts.fetching import transfer_progress; import time\n"
        "with transfer_progress('head seed 1: fetching', 440_000_000) as advance:\n"
        "    advance(220_000_000); time.sleep(0.5)"
    )
    terminal, end = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120", "LINES": "20"}
    subprocess.run([sys.executable, "-c", script], stderr=end, env=environment, check=True)
    os.close(end)
    shown = b""
    try:
        while piece := os.read(terminal, 1 << 16):
            shown += piece
    except OSError:  # end of the output
        pass
    os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"head seed 1: fetching .*220\.0/440\.0 MB", plain), plain
