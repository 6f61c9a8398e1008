"""Commands on one job: run it, see how it is, read its report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjobs.cli.app import AsJson, Job, Seed, SeedIndex, Set, StageName, Store, app, open_job
from ftjobs.cli.tables import aligned, print_table
from ftjobs.cli.termination import leave_message
from ftjobs.errors import UserError

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.plan import StageRun
    from ftjobs.storage import Storage

_INTERRUPTED = 130  # 128 + SIGINT, as shells say it


@app.command()
def run(
    job: Job,
    at_once: Annotated[
        int,
        typer.Option(
            "--parallel", metavar="N", min=1, help="Stages that run at once, sharing cores and memory, or GPUs in turn."
        ),
    ] = 1,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Run every stage on this machine, in order, skipping what is published; print the report."""
    runs, storage = open_job(job, overrides, store)
    report = _run_all(runs, storage, at_once)[-1]
    from ftjobs import artifacts

    print(artifacts.read_text(storage, report, "report.md"), end="")
    print(f"\nreport: {storage.uri(report.folder)}/report.html", file=sys.stderr)
    print(f"the model to ship: ftjobs pull {storage.uri(report.metrics['to_ship']['artifact'])} DIR", file=sys.stderr)
    print(f"any other: ftjobs pull {job} STAGE DIR --store {store}", file=sys.stderr)


def _run_all(runs: list[StageRun], storage: Storage, at_once: int) -> list[Manifest]:
    from ftjobs.system.progress import log_to_stderr

    if at_once == 1:
        log_to_stderr()
        from ftjobs.execution import runner

        return runner.run_all(runs, storage)
    from rich.console import Console

    from ftjobs.cli import watching
    from ftjobs.execution import process_pool
    from ftjobs.execution.status import states

    console = Console(stderr=True, highlight=False, markup=False)
    log_to_stderr(console)
    with watching.below_the_log(runs[0].pipeline, lambda: states(runs, storage), console):
        return process_pool.run_all(runs, storage, at_once)


@app.command()
def stage(
    job: Job,
    name: StageName,
    seed: Seed = None,
    seed_index: SeedIndex = None,
    processes: Annotated[
        int, typer.Option("--num-processes", help="Processes, one per GPU, on all machines together.")
    ] = 1,
    machine_count: Annotated[int, typer.Option("--num-machines", help="Machines that run the stage together.")] = 1,
    machine_rank: Annotated[int, typer.Option("--machine-rank", help="Which of them this is, from 0.")] = 0,
    address: Annotated[str | None, typer.Option("--main-address", help="Host name of the machine of rank 0.")] = None,
    port: Annotated[int, typer.Option("--main-port", help="A free port on it.")] = 29500,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Run one stage: what a container runs. The stages it reads must be published. Prints its metrics as JSON."""
    from ftjobs.execution.topology import Topology
    from ftjobs.plan import select, select_index
    from ftjobs.system.progress import log_to_stderr

    if seed is not None and seed_index is not None:
        raise UserError(f"--seed {seed} --seed-index {seed_index}: give one of the two")
    machines = Topology(processes, machine_count, machine_rank, address, port)
    runs, storage = open_job(job, overrides, store)
    chosen = select(runs, name, seed) if seed_index is None else select_index(runs, name, seed_index)
    log_to_stderr()
    from ftjobs.execution import runner

    if not machines.is_main:
        runner.assist(chosen, storage, machines)
        return
    interactive = seed_index is None  # it is what a pod knows its seed by, and nobody reads what that says
    metrics = json.dumps(runner.run_stage(chosen, storage, machines, interactive).metrics)
    print(metrics)
    leave_message(metrics)


@app.command()
def plan(job: Job, overrides: Set = None, store: Store = "runs", as_json: AsJson = False) -> None:
    """Show the stages, what each reads, which are published, what would run, and how much work that is."""
    from ftjobs import artifacts
    from ftjobs.execution.status import work

    runs, storage = open_job(job, overrides, store)
    manifests = {one.key: artifacts.find(storage, one) for one in runs}
    rows: list[dict[str, Any]] = []
    for one in runs:
        published = manifests[one.key] is not None
        prepared = manifests[one.inputs.get("corpus", one.data).key] if one.has_seed else None
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
    cells = [
        [
            *(row["stage"], row["seed"], row["kind"], ", ".join(row["reads"]), row["identity"]),
            *("published" if row["published"] else "would run", row["work"]),
        ]
        for row in rows
    ]
    print_table(aligned(["stage", "seed", "kind", "reads", "identity", "state", "work"], cells))


@app.command()
def status(
    job: Job,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it live, until all is published (exit code 0) or nothing goes on (1).")
    ] = False,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """Show what is published, running, failed, ready to run or waiting, from storage alone."""
    from ftjobs.execution.status import describe, states

    runs, storage = open_job(job, overrides, store)
    found = states(runs, storage)
    if as_json:
        print(json.dumps(found, indent=1))
        return

    if not watch:
        rows = [[row["stage"], row["seed"], row["state"], describe(row)] for row in found]
        print_table(aligned(["stage", "seed", "state", ""], rows))
        return
    from rich.console import Console

    from ftjobs.cli import watching

    try:
        watching.watch(runs[0].pipeline, lambda: states(runs, storage), Console(highlight=False, markup=False))
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


@app.command()
def report(
    job: Job,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Also write the report's files here.")
    ] = None,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Print the report of a pipeline whose stages are published; --out writes it as HTML with its plots too."""
    from ftjobs import artifacts
    from ftjobs.system.progress import log_to_stderr

    runs, storage = open_job(job, overrides, store)
    manifest = artifacts.find(storage, runs[-1])
    if manifest is None:
        log_to_stderr()
        from ftjobs.execution import runner

        manifest = runner.run_stage(runs[-1], storage)
    if out is not None:
        artifacts.pull(storage, manifest, out)
    print(artifacts.read_text(storage, manifest, "report.md"), end="")


@app.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors."""
    from ftjobs.jobfile.fields import Job as JobFile

    print(json.dumps(JobFile.model_json_schema(), indent=1))
