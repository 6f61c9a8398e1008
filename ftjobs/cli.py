"""The commands. Results go to stdout, progress and logs to stderr; an error is one line per problem and an exit code.

Whatever is slow to import is imported inside the command that needs it, so that help, plan and status are instant.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjobs.errors import CorruptArtifact, FtjobsError, UserError

if TYPE_CHECKING:
    from rich.table import Table

    from ftjobs.artifacts import Manifest
    from ftjobs.plan import StageRun
    from ftjobs.storage import Storage

_SECONDS_BETWEEN_LOOKS = 2.0

app = typer.Typer(
    help="Does adapting a language model to our domain pay, and which model do we ship?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # it prints local variables, which may hold secrets
)

Job = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (YAML).", show_default=False)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=VALUE", help="Override a field of the job file; may be repeated."),
]
Store = Annotated[
    str,
    typer.Option("--store", envvar="FTJOBS_STORE", metavar="FOLDER|s3://…", help="Where artifacts are published."),
]
OneJob = Annotated[Path | None, typer.Argument(metavar="[JOB]", help="Only this job's pipeline.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Which seed, where the job has several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="Name of the stage.", show_default=False)]


def main() -> None:
    """Entry point: run a command and turn an error into its line and exit code."""
    try:
        app()
    except FtjobsError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `ftjobs ls | head`
        sys.stdout = None
        sys.exit(0)
    except OSError as error:
        print(f"error: {error.filename or 'this machine'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


@app.command()
def run(job: Job, overrides: Set = None, store: Store = "runs") -> None:
    """Run every stage on this machine, in order, skipping what is published; print the results table."""
    from ftjobs.progress import log_to_stderr

    runs, storage = _open(job, overrides, store)
    log_to_stderr()
    from ftjobs import artifacts, runner

    report = runner.run_all(runs, storage)[-1]
    print(artifacts.read_text(storage, report, "report.md"), end="")
    print(f"\nreport: {storage.uri(report.folder)}", file=sys.stderr)
    print(f"checkpoints: ftjobs pull {job} STAGE DIR --store {store}", file=sys.stderr)


@app.command()
def stage(job: Job, name: StageName, seed: Seed = None, overrides: Set = None, store: Store = "runs") -> None:
    """Run one stage: what a container runs. The stages it reads must be published. Prints its metrics as JSON."""
    from ftjobs.plan import select
    from ftjobs.progress import log_to_stderr

    runs, storage = _open(job, overrides, store)
    chosen = select(runs, name, seed)
    log_to_stderr()
    from ftjobs import runner

    print(json.dumps(runner.run_stage(chosen, storage).metrics))


@app.command()
def plan(job: Job, overrides: Set = None, store: Store = "runs", as_json: AsJson = False) -> None:
    """Show the stages, what each reads, which are published, what would run, and how much work that is."""
    from ftjobs import artifacts
    from ftjobs.status import work

    runs, storage = _open(job, overrides, store)
    prepared = artifacts.find(storage, runs[0])
    rows: list[dict[str, Any]] = []
    for one in runs:
        published = artifacts.find(storage, one) is not None
        rows.append(
            {
                "stage": one.stage,
                "seed": one.seed if one.has_seed else None,
                "kind": one.kind,
                "reads": sorted({read.title for read in one.inputs.values()}) if one.kind != "report" else ["all"],
                "identity": one.identity[:12],
                "published": published,
                "work": None if published else work(one, prepared),
            }
        )
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = [
        [
            *(row["stage"], row["seed"], row["kind"], ", ".join(row["reads"]), row["identity"]),
            *("published" if row["published"] else "would run", row["work"]),
        ]
        for row in rows
    ]
    _print_table(_table(["stage", "seed", "kind", "reads", "identity", "state", "work"], table))


@app.command()
def status(
    job: Job,
    watch: Annotated[bool, typer.Option("--watch", help="Show it live, until every stage is published.")] = False,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """Show what is published, running, failed, ready to run or waiting, from storage alone."""
    from ftjobs.status import describe, states

    runs, storage = _open(job, overrides, store)
    found = states(runs, storage)
    if as_json:
        print(json.dumps(found, indent=1))
        return

    def table(found: list[dict[str, Any]]) -> Table:
        rows = [[row["stage"], row["seed"], row["state"], describe(row)] for row in found]
        return _table(["stage", "seed", "state", ""], rows)

    if not watch:
        _print_table(table(found))
        return
    from rich.live import Live

    with Live(table(found), auto_refresh=False) as live:
        while any(row["state"] != "published" for row in found):
            time.sleep(_SECONDS_BETWEEN_LOOKS)
            found = states(runs, storage)
            live.update(table(found), refresh=True)


@app.command()
def report(
    job: Job,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also write the report's files here.")
    ] = None,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Print the report of a pipeline whose stages are published, and write its files with --out."""
    from ftjobs import artifacts
    from ftjobs.progress import log_to_stderr

    runs, storage = _open(job, overrides, store)
    manifest = artifacts.find(storage, runs[-1])
    if manifest is None:
        log_to_stderr()
        from ftjobs import runner

        manifest = runner.run_stage(runs[-1], storage)
    if out is not None:
        artifacts.pull(storage, manifest, out)
    print(artifacts.read_text(storage, manifest, "report.md"), end="")


@app.command()
def ls(
    job: OneJob = None,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """List what is published: every pipeline in the store, or one job's."""
    from ftjobs import artifacts

    pipeline, wanted, storage = _part_of_store(job, overrides, store)
    found = [one for one in artifacts.listing(storage, pipeline) if wanted is None or one.key in wanted]
    if as_json:
        print(json.dumps([_describe(manifest, storage) for manifest in found], indent=1))
        return
    rows = [list(_describe(manifest, storage).values()) for manifest in found]
    _print_table(_table(["pipeline", "stage", "seed", "kind", "identity", "bytes", "accuracy", "where"], rows))


@app.command()
def pull(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB STAGE DIR | ARTIFACT-URI DIR",
            help="A stage of a job, or an address that `ls` prints; and a new folder.",
            show_default=False,
        ),
    ],
    seed: Seed = None,
    everything: Annotated[bool, typer.Option("--all", help="Metrics and predictions too, not only the model.")] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Fetch a stage's checkpoint into a new folder that `from_pretrained` loads; goes on where a pull was cut short."""
    from ftjobs import artifacts
    from ftjobs.plan import select
    from ftjobs.progress import log_to_stderr

    log_to_stderr()
    if len(what) == 3:
        runs, storage = _open(Path(what[0]), overrides, store)
        manifest = artifacts.require(storage, select(runs, what[1], seed))
    elif len(what) == 2:
        storage, manifest = artifacts.at(what[0])
    else:
        raise UserError(f"pull {' '.join(what)}: give JOB STAGE DIR, or ARTIFACT-URI DIR")
    artifacts.pull(storage, manifest, Path(what[-1]), everything=everything)
    print(what[-1])


@app.command()
def verify(job: OneJob = None, overrides: Set = None, store: Store = "runs") -> None:
    """Read again what is published and compare it with its sha256; name every file that is not right."""
    from ftjobs import artifacts
    from ftjobs.progress import log_to_stderr

    log_to_stderr()
    pipeline, wanted, storage = _part_of_store(job, overrides, store)
    found = [key for key in artifacts.published(storage, pipeline) if wanted is None or key in wanted]
    problems = [problem for key in found for problem in artifacts.verify(storage, key)]
    if problems:
        raise CorruptArtifact(problems)
    print(f"{len(found)} artifacts, all right")


@app.command()
def gc(
    job: OneJob = None,
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="30m, 24h, 7d")] = "24h",
    delete: Annotated[bool, typer.Option("--delete", help="Remove it, instead of only saying what would go.")] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """List, or with --delete remove, what nobody will read: dead attempts, and training state of published stages."""
    from ftjobs import artifacts

    age = artifacts.age(older_than)
    pipeline, _, storage = _part_of_store(job, overrides, store)
    rows = []
    for found in list(artifacts.dead(storage, age, pipeline)):
        gone = delete and artifacts.remove(storage, found)
        state = "removed" if gone else "kept: published meanwhile" if delete else "would go"
        when = found.modified.astimezone().isoformat(" ", "minutes")
        rows.append([found.what, len(found.files), found.size, when, state, storage.uri(found.folder)])
    _print_table(_table(["what", "files", "bytes", "last written", "state", "where"], rows))


@app.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors."""
    from ftjobs.jobfile.fields import Job as JobFile

    print(json.dumps(JobFile.model_json_schema(), indent=1))


def _open(job: Path, overrides: list[str] | None, store: str) -> tuple[list[StageRun], Storage]:
    """What every command on a job starts from: its stages with their identities, and the store."""
    from ftjobs.jobfile.read import read
    from ftjobs.plan import plan as plan_stages
    from ftjobs.storage import open_storage

    if os.path.isdir(job):
        raise UserError(f"{job}: is a folder; give the job file in it")
    storage = open_storage(store)
    return plan_stages(read(job, overrides or [])), storage


def _part_of_store(
    job: Path | None, overrides: list[str] | None, store: str
) -> tuple[str | None, set[str] | None, Storage]:
    """The store, and if there is a job its pipeline and the keys of its artifacts."""
    from ftjobs.storage import open_storage

    if job is None:
        return None, None, open_storage(store)
    runs, storage = _open(job, overrides, store)
    return runs[0].pipeline, {run.key for run in runs}, storage


def _describe(manifest: Manifest, storage: Storage) -> dict[str, Any]:
    return {
        "pipeline": manifest.pipeline,
        "stage": manifest.stage,
        "seed": manifest.seed,
        "kind": manifest.kind,
        "identity": manifest.identity[:12],
        "bytes": manifest.size,
        "accuracy": manifest.metrics.get("accuracy"),
        "where": storage.uri(manifest.folder),
    }


def _table(header: list[str], rows: list[list[Any]]) -> Table:
    """Aligned columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _print_table(table: Table) -> None:
    """Print a table; nothing is cut where the output is no terminal."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 1_000, highlight=False, markup=False).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
