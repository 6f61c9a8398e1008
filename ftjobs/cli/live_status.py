"""`ftjobs status --watch`: a live view of a pipeline on a terminal, and one line per change elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from ftjobs.errors import FtjobsError
from ftjobs.execution.status import StageStatus

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.table import Table
    from rich.text import Text

_REFRESH_SECONDS = 2.0
_WIDE_TERMINAL = 100
_MARKS = {"published": "✓", "running": "▶", "failed": "✗", "ready": "○", "waiting": "·"}
_ASCII_MARKS = {"published": "+", "running": ">", "failed": "x", "ready": "o", "waiting": "."}
_STYLES = {"published": "green", "running": "bold cyan", "failed": "bold red", "ready": "yellow", "waiting": "dim"}
#: Without a terminal, a running stage is logged after each tenth of its steps.
_LINES_PER_STAGE = 10
#: Metrics of a running stage in order of preference; the first two present are shown.
_METRICS = (
    *("train/loss", "eval/validation/accuracy", "eval/test/accuracy", "eval/validation/mse", "eval/test/mse"),
    "mlm/perplexity",
)


def watch(pipeline: str, poll: Callable[[], list[StageStatus]], console: Console) -> None:
    """Show the state of a pipeline until every stage is published.

    Args:
        pipeline: its name.
        poll: returns the current state of its stages.
        console: terminal or file to write to.

    Raises:
        FtjobsError: a stage has failed and none is running.
    """
    if console.is_terminal:
        _watch_on_terminal(pipeline, poll, console)
    else:
        _print_changes(poll, console)


@contextmanager
def shown_below_log(pipeline: str, poll: Callable[[], list[StageStatus]], console: Console) -> Iterator[None]:
    """Show the state of a pipeline below the log of the same console while the block runs; only on a terminal."""
    if not console.is_terminal:
        yield
        return
    from rich.live import Live

    view, polled_at = render(pipeline, poll(), console), time.monotonic()

    def current_view() -> Group:
        nonlocal view, polled_at
        if time.monotonic() - polled_at >= _REFRESH_SECONDS:
            polled_at = time.monotonic()
            with suppress(FtjobsError):  # the stages report a store that does not answer
                view = render(pipeline, poll(), console)
        return view

    with Live(get_renderable=current_view, console=console, refresh_per_second=1 / _REFRESH_SECONDS, transient=True):
        yield


def render(pipeline: str, statuses: list[StageStatus], console: Console) -> Group:
    """Render all stages with their seeds, then progress of running stages, then errors of failed ones."""
    from rich.console import Group
    from rich.text import Text

    running = [status for status in statuses if status.running]
    failed = [status for status in statuses if status.failed]
    parts: list[Any] = [_counts(pipeline, statuses), Text(), _stage_table(statuses, console)]
    if running:
        parts += [Text(), _progress_table(running, console)]
    for status in failed:
        parts += [Text(), Text.assemble((f"{status.title} failed: ", "bold red"), status.description)]
    return Group(*parts)


def is_complete(statuses: list[StageStatus]) -> bool:
    """Return True if every stage is published.

    Raises:
        FtjobsError: a stage has failed and none is running.
    """
    if all(status.state == "published" for status in statuses):
        return True
    failed = [status for status in statuses if status.failed]
    if failed and not any(status.running and not status.is_stale for status in statuses):
        raise FtjobsError([f"{status.title} has failed: {status.description}" for status in failed])
    return False


def _watch_on_terminal(pipeline: str, poll: Callable[[], list[StageStatus]], console: Console) -> None:
    from rich.live import Live

    statuses = poll()
    with Live(render(pipeline, statuses, console), console=console, auto_refresh=False) as live:
        while not is_complete(statuses):
            time.sleep(_REFRESH_SECONDS)
            statuses = poll()
            live.update(render(pipeline, statuses, console), refresh=True)


def _print_changes(poll: Callable[[], list[StageStatus]], console: Console) -> None:
    from rich.text import Text

    printed: dict[str, tuple[str, int]] = {}
    while True:
        statuses = poll()
        for status in statuses:
            running = status.running
            tenths = _LINES_PER_STAGE * running.step // (running.total or 1) if running else 0
            if printed.get(status.title) != (status.state, tenths):
                printed[status.title] = (status.state, tenths)
                description = f", {status.description}" if status.description else ""
                console.print(Text(f"{status.title}: {status.state}{description}"), soft_wrap=True)
        if is_complete(statuses):
            return
        time.sleep(_REFRESH_SECONDS)


def _counts(pipeline: str, statuses: list[StageStatus]) -> Text:
    from rich.text import Text

    counts = {state: sum(status.state == state for status in statuses) for state in _STYLES}
    parts = [f"{counts['published']} of {len(statuses)} published"]
    parts += [f"{counts[state]} {state}" for state in ("running", "failed", "ready", "waiting") if counts[state]]
    return Text.assemble((pipeline, "bold"), "  ", ", ".join(parts))


def _stage_table(statuses: list[StageStatus], console: Console) -> Table:
    """Build the table with one line per stage: the state of every seed, and the result of published ones."""
    from rich.table import Table
    from rich.text import Text

    marks = _ASCII_MARKS if console.options.ascii_only else _MARKS
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("stage", no_wrap=True)
    table.add_column("seeds")
    table.add_column("result", no_wrap=True, overflow="ellipsis")
    for stage in dict.fromkeys(status.stage for status in statuses):
        seeds = [status for status in statuses if status.stage == stage]
        cells = [
            Text(f"{marks[status.state]}{'' if status.seed is None else status.seed}", _STYLES[status.state])
            for status in seeds
        ]
        table.add_row(Text(stage), Text(" ").join(cells), Text(_result(seeds)))
    return table


def _result(seeds: list[StageStatus]) -> str:
    """Return the result of a single published seed; mean and standard deviation over several."""
    published = [status for status in seeds if status.state == "published"]
    for name, form, scale, values in (
        ("accuracy", ".2f", 100.0, [status.accuracy for status in published]),
        ("perplexity", ".1f", 1.0, [status.perplexity for status in published]),
    ):
        scaled = [scale * value for value in values if value is not None]
        if len(scaled) > 1:
            return f"{name} {mean(scaled):{form}} ± {stdev(scaled):{form}}, {len(scaled)} seeds"
    return published[0].result or "" if published else ""


def _progress_table(statuses: list[StageStatus], console: Console) -> Table:
    """Build the table with one line per running stage: steps, speed, elapsed and remaining time, latest metrics."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    is_wide = console.width >= _WIDE_TERMINAL
    bar_width = 24 if is_wide else 12
    table = Table(box=None, pad_edge=False, header_style="bold")
    title_width = max(len(status.title) for status in statuses)
    table.add_column("running", no_wrap=True, overflow="ellipsis", min_width=min(title_width, console.width // 2))
    table.add_column("", min_width=bar_width)
    for header in ("steps", *(("steps/s", "elapsed") if is_wide else ()), "left"):
        table.add_column(header, no_wrap=True, justify="right", min_width=len("0:00:00"))
    table.add_column("latest", no_wrap=True, overflow="ellipsis")  # the column that a narrow terminal truncates first
    for status in statuses:
        running = status.running
        if running is None:
            continue
        bar = ProgressBar(total=running.total or 1, completed=running.step, width=bar_width)
        steps = f"{running.step:,}/{running.total:,}" if running.total else "starting"
        cells: list[Any] = [Text(status.title), bar, Text(steps)]
        if is_wide:
            rate = "" if running.rate is None else f"{running.rate:,.1f}"
            cells += [Text(rate), Text(_format_duration(running.elapsed))]
        table.add_row(*cells, Text(_format_duration(status.remaining_seconds)), _latest_metrics(status))
    return table


def _latest_metrics(status: StageStatus) -> Text:
    from rich.text import Text

    if status.running is None:
        return Text()
    if status.is_stale:
        return Text(f"no heartbeat for {status.running.age:.0f} s", "bold red")
    metrics = status.running.figures
    shown = [f"{name.rpartition('/')[2]} {metrics[name]:.4g}" for name in _METRICS if name in metrics]
    return Text(", ".join(shown[:2]))


def _format_duration(seconds: float | None) -> str:
    return "" if seconds is None else str(timedelta(seconds=round(seconds)))
