"""`ftjobs status --watch`: how a pipeline goes, live on a terminal, and a line for every change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ftjobs.errors import FtjobsError
from ftjobs.execution.status import describe, is_silent, remaining

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

Rows = list[dict[str, Any]]

_SECONDS_BETWEEN_LOOKS = 2.0
_WIDE = 100
_MARKS = {"published": "✓", "running": "▶", "failed": "✗", "ready": "○", "waiting": "·"}
_PLAIN_MARKS = {"published": "+", "running": ">", "failed": "x", "ready": "o", "waiting": "."}
_STYLES = {"published": "green", "running": "bold cyan", "failed": "bold red", "ready": "yellow", "waiting": "dim"}
_LINES_PER_STAGE = 10
#: What is shown of a running stage's newest figures, the first that there are.
_FIGURES = (
    *("train/loss", "eval/validation/accuracy", "eval/test/accuracy", "eval/validation/mse", "eval/test/mse"),
    "mlm/perplexity",
)


def watch(title: str, look: Callable[[], Rows], console: Console) -> None:
    """Show how it goes until every stage is published.

    Args:
        title: name of the pipeline.
        look: the states of its stages as they are now, as `status.states` gives them.
        console: where to show them.

    Raises:
        FtjobsError: a stage has failed and none is running.
    """
    if console.is_terminal:
        _live(title, look, console)
    else:
        _lines(look, console)


@contextmanager
def below_the_log(title: str, look: Callable[[], Rows], console: Console) -> Iterator[None]:
    """Show it on a terminal while the block runs, below the lines that are logged to the same console."""
    if not console.is_terminal:
        yield
        return
    from rich.live import Live

    shown, looked = view(title, look(), console), time.monotonic()

    def newest() -> Group:
        nonlocal shown, looked
        if time.monotonic() - looked >= _SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            with suppress(FtjobsError):  # of a store that does not answer; what needs it says so
                shown = view(title, look(), console)
        return shown

    with Live(get_renderable=newest, console=console, refresh_per_second=1 / _SECONDS_BETWEEN_LOOKS, transient=True):
        yield


def view(title: str, rows: Rows, console: Console) -> Group:
    """What a terminal shows: every stage with its seeds, then those that run, then what failed."""
    from rich.console import Group
    from rich.text import Text

    running = [row for row in rows if row["state"] == "running"]
    failed = [row for row in rows if row["state"] == "failed"]
    parts: list[Any] = [_counts(title, rows), Text(), _stages(rows, console)]
    if running:
        parts += [Text(), _progress(running, console)]
    for row in failed:
        parts += [Text(), Text.assemble((f"{_name(row)} failed: ", "bold red"), describe(row))]
    return Group(*parts)


def ended(rows: Rows) -> bool:
    """Whether there is nothing more to wait for.

    Raises:
        FtjobsError: because a stage has failed and none is running.
    """
    if all(row["state"] == "published" for row in rows):
        return True
    failed = [row for row in rows if row["state"] == "failed"]
    if failed and not any(row["state"] == "running" and not is_silent(row) for row in rows):
        raise FtjobsError([f"{_name(row)} has failed: {describe(row)}" for row in failed])
    return False


def _live(title: str, look: Callable[[], Rows], console: Console) -> None:
    from rich.live import Live

    rows = look()
    with Live(view(title, rows, console), console=console, auto_refresh=False) as live:
        while not ended(rows):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            rows = look()
            live.update(view(title, rows, console), refresh=True)


def _lines(look: Callable[[], Rows], console: Console) -> None:
    from rich.text import Text

    told: dict[str, Any] = {}
    while True:
        rows = look()
        for row in rows:
            tenths = _LINES_PER_STAGE * (row.get("step") or 0) // (row.get("total") or 1)
            if told.get(_name(row)) != (row["state"], tenths):
                told[_name(row)] = (row["state"], tenths)
                said = describe(row)
                console.print(Text(f"{_name(row)}: {row['state']}{'' if said == '-' else f', {said}'}"), soft_wrap=True)
        if ended(rows):
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _name(row: dict[str, Any]) -> str:
    return row["stage"] if row["seed"] is None else f"{row['stage']} seed {row['seed']}"


def _counts(title: str, rows: Rows) -> Text:
    from rich.text import Text

    counts = {state: sum(row["state"] == state for row in rows) for state in _STYLES}
    said = [f"{counts['published']} of {len(rows)} published"]
    said += [f"{counts[state]} {state}" for state in ("running", "failed", "ready", "waiting") if counts[state]]
    return Text.assemble((title, "bold"), "  ", ", ".join(said))


def _stages(rows: Rows, console: Console) -> Table:
    """A line for each stage: the state of every seed, and what came of those that are published."""
    from rich.table import Table
    from rich.text import Text

    marks = _PLAIN_MARKS if console.options.ascii_only else _MARKS
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("seeds")
    table.add_column("result", no_wrap=True, overflow="ellipsis")
    for stage in dict.fromkeys(row["stage"] for row in rows):
        seeds = [row for row in rows if row["stage"] == stage]
        cells = [
            Text(f"{marks[row['state']]}{'' if row['seed'] is None else row['seed']}", _STYLES[row["state"]])
            for row in seeds
        ]
        table.add_row(Text(stage), Text(" ").join(cells), Text(_result(seeds)))
    return table


def _result(seeds: Rows) -> str:
    """Of one seed what it came to, of several the mean and standard deviation."""
    published = [row for row in seeds if row["state"] == "published"]
    for name, form, scale in (("accuracy", ".2f", 100.0), ("perplexity", ".1f", 1.0)):
        values = [scale * row[name] for row in published if row[name] is not None]
        if len(values) > 1:
            return f"{name} {mean(values):{form}} ± {stdev(values):{form}}, {len(values)} seeds"
    return published[0]["result"] if published else ""


def _progress(running: Rows, console: Console) -> Table:
    """A line for each stage that runs: how far it is, how fast, how long still, and its newest figures."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    wide = console.width >= _WIDE
    bar_width = 24 if wide else 12
    table = Table(box=None, pad_edge=False, header_style="bold")
    names = max(len(_name(row)) for row in running)
    table.add_column("running", no_wrap=True, overflow="ellipsis", min_width=min(names, console.width // 2))
    table.add_column("", min_width=bar_width)
    for header in ("steps", *(("steps/s", "elapsed") if wide else ()), "left"):
        table.add_column(header, no_wrap=True, justify="right", min_width=len("0:00:00"))
    table.add_column("newest", no_wrap=True, overflow="ellipsis")  # cut first where there is too little room
    for row in running:
        step, total = row["step"], row["total"]
        bar = ProgressBar(total=total or 1, completed=step, width=bar_width)
        rate = "" if row["rate"] is None else f"{row['rate']:,.1f}"
        cells: list[Any] = [Text(_name(row)), bar, Text(f"{step:,}/{total:,}" if total else "starting")]
        cells += [Text(rate), Text(_clock(row["elapsed"]))] if wide else []
        table.add_row(*cells, Text(_clock(remaining(row))), _newest(row))
    return table


def _newest(row: dict[str, Any]) -> Text:
    from rich.text import Text

    if is_silent(row):
        return Text(f"no sign of life for {row['age']:.0f} s", "bold red")
    figures = row["figures"]
    shown = [f"{name.rpartition('/')[2]} {figures[name]:.4g}" for name in _FIGURES if name in figures]
    return Text(", ".join(shown[:2]))


def _clock(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
