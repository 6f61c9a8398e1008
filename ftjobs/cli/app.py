"""The Typer application, what several commands take, and what every command on a job starts from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ftjobs.errors import UserError

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.plan import StageRun
    from ftjobs.storage import Storage

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
SeedIndex = Annotated[
    int | None,
    typer.Option("--seed-index", metavar="N", help="Which seed, by its position in the job file, counted from 0."),
]
OneJob = Annotated[Path | None, typer.Argument(metavar="[JOB]", help="Only this job's pipeline.")]
Seed = Annotated[int | None, typer.Option("--seed", help="Which seed, where the job has several.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
StageName = Annotated[str, typer.Argument(metavar="STAGE", help="Name of the stage.", show_default=False)]


def open_job(job: Path, overrides: list[str] | None, store: str) -> tuple[list[StageRun], Storage]:
    """What every command on a job starts from: its stages with their identities, and the store."""
    from ftjobs.jobfile.read import read
    from ftjobs.plan import plan as plan_stages
    from ftjobs.storage import open_storage

    if os.path.isdir(job):
        raise UserError(f"{job}: is a folder; give the job file in it")
    storage = open_storage(store)
    return plan_stages(read(job, overrides or [])), storage


def artifact_of(
    what: list[str], form: str, seed: int | None, overrides: list[str] | None, store: str
) -> tuple[Storage, Manifest]:
    """The store and the artifact that `JOB STAGE` or `ARTIFACT-URI` names; `form` is how they can be written."""
    from ftjobs import artifacts
    from ftjobs.plan import select

    if len(what) == 1:
        return artifacts.at(what[0])
    if len(what) != 2:
        raise UserError(form)
    runs, storage = open_job(Path(what[0]), overrides, store)
    return storage, artifacts.require(storage, select(runs, what[1], seed))


def part_of_store(
    job: Path | None, overrides: list[str] | None, store: str
) -> tuple[str | None, set[str] | None, Storage]:
    """The store, and if there is a job its pipeline and the keys of its artifacts."""
    from ftjobs.storage import open_storage

    if job is None:
        return None, None, open_storage(store)
    runs, storage = open_job(job, overrides, store)
    return runs[0].pipeline, {run.key for run in runs}, storage
