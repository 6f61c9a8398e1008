"""The Typer application, options shared by several commands, opening of jobs and stores, and output of commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import typer
from typer.core import TyperGroup

from ftjobs import __version__
from ftjobs.errors import UserError

if TYPE_CHECKING:
    from rich.table import Table

    from ftjobs.artifacts import Manifest
    from ftjobs.plan import StageRun
    from ftjobs.storage import Storage

#: Longest termination message that the kubelet keeps, in bytes (MaxContainerTerminationMessageLength).
MAX_TERMINATION_MESSAGE_BYTES = 4096
#: Commands in the order of use, as `ftjobs --help` lists them.
COMMANDS = (
    *("run", "plan", "status", "report", "ls", "pull", "predict", "evaluate", "push"),
    *("stage", "render", "submit", "conduct", "verify", "gc", "doctor", "schema"),
)


class _OrderedGroup(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return [name for name in COMMANDS if name in self.commands]


app = typer.Typer(
    cls=_OrderedGroup,
    help="Compare ways to adapt a language model to your domain, and find the best classifier.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # importing rich takes longer than everything else that --help does
    pretty_exceptions_enable=False,  # it prints local variables, which may contain secrets
)

_Function = TypeVar("_Function", bound=Callable[..., Any])

Job = Annotated[Path, typer.Argument(metavar="JOB", help="Job file (YAML).", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a field of the job file. Can be repeated."),
]
Store = Annotated[
    str,
    typer.Option("--store", envvar="FTJOBS_STORE", metavar="FOLDER|s3://…", help="Store of the artifacts."),
]
SeedIndex = Annotated[
    int | None,
    typer.Option("--seed-index", metavar="N", help="Position of the seed in the job file, counted from 0."),
]
OptionalJob = Annotated[
    Path | None, typer.Argument(metavar="[JOB]", help="Job file; only its pipeline is considered.", show_default=False)
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Seed of the stage; required if the job has several.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="Name of the stage.", show_default=False)]


def command(example: str) -> Callable[[_Function], _Function]:
    """Register a function as a command whose help ends with an example."""
    return app.command(epilog=f"\b\nExample:\n  {example}")


@app.callback()
def _global_options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=lambda v: _print_version(v))
    ] = False,
) -> None:
    pass


def _print_version(requested: bool) -> None:
    if requested:
        print(f"ftjobs {__version__}")
        raise typer.Exit


def open_job(job: Path, overrides: list[str] | None, store: str) -> tuple[list[StageRun], Storage]:
    """Read a job file and open the store; returns the planned stages and the store."""
    from ftjobs.jobfile.read import read
    from ftjobs.plan import plan as plan_stages
    from ftjobs.storage import open_storage

    if os.path.isdir(job):
        raise UserError(f"{job}: is a folder; give the path of a job file")
    storage = open_storage(store)
    return plan_stages(read(job, overrides or [])), storage


def find_artifact(
    address: list[str], usage: str, seed: int | None, overrides: list[str] | None, store: str
) -> tuple[Storage, Manifest]:
    """Find the artifact that `JOB STAGE` or `ARTIFACT-URI` names; returns the store and the manifest.

    Args:
        address: the words on the command line.
        usage: error message for any other number of words.
        seed: of the stage, if the job has several.
        overrides: values of `--set`.
        store: value of `--store`.
    """
    from ftjobs import artifacts
    from ftjobs.plan import select

    if len(address) == 1:
        return artifacts.resolve_uri(address[0])
    if len(address) != 2:
        raise UserError(usage)
    runs, storage = open_job(Path(address[0]), overrides, store)
    return storage, artifacts.require_manifest(storage, select(runs, address[1], seed))


class StoreScope(NamedTuple):
    """The part of a store that a command works on."""

    storage: Storage
    pipeline: str | None
    """Only this pipeline; None for all."""
    keys: set[str] | None
    """Keys of the artifacts of one job; None for all."""


def open_scope(job: Path | None, overrides: list[str] | None, store: str) -> StoreScope:
    """Open a store, limited to the artifacts of a job if one is given."""
    from ftjobs.storage import open_storage

    if job is None:
        return StoreScope(open_storage(store), None, None)
    runs, storage = open_job(job, overrides, store)
    return StoreScope(storage, runs[0].pipeline, {run.key for run in runs})


def make_table(header: list[str], rows: list[list[Any]]) -> Table:
    """Build a table with aligned columns. None is shown as `-`, floats with four decimals."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(_format_cell(value)) for value in row))
    return table


def print_table(table: Table) -> None:
    """Print a table on stdout. Unless stdout is a terminal, nothing is truncated and lines have no trailing spaces."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False, markup=False).print(table)
        return
    console = Console(width=1_000, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def write_termination_message(text: str) -> None:
    """Write a text to the file that FTJOBS_TERMINATION_LOG names, if set. Kubernetes shows it in the pod's status."""
    path = os.environ.get("FTJOBS_TERMINATION_LOG")
    if not path:
        return
    # Decoding drops a character that the limit cuts in half.
    message = text.encode(errors="replace")[: MAX_TERMINATION_MESSAGE_BYTES - 1].decode(errors="ignore")
    with suppress(OSError), open(path, "w", encoding="utf-8") as file:  # stdout or stderr have the message too
        file.write(message)


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
