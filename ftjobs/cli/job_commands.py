"""Commands on the stages of one job: run, stage, plan, status, report."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjobs.cli.app import (
    AsJson,
    Job,
    Seed,
    SeedIndex,
    Set,
    StageName,
    Store,
    command,
    make_table,
    open_job,
    print_table,
    write_termination_message,
)
from ftjobs.errors import ExitCode, UserError

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.plan import StageRun
    from ftjobs.storage import Storage


@command("ftjobs run job.yaml --set defaults.classify.epochs=4")
def run(
    job: Job,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel", metavar="N", min=1, help="Stages to run at once. They share cores and memory, or take GPUs."
        ),
    ] = 1,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Run all stages on this machine and print the report. Skips published stages."""
    runs, storage = open_job(job, overrides, store)
    report = _run_all(runs, storage, parallel)[-1]
    from ftjobs import artifacts

    print(artifacts.read_text(storage, report, "report.md"), end="")
    print(f"\nreport: {storage.uri(report.folder)}/report.html", file=sys.stderr)
    to_ship = storage.uri(report.metrics["to_ship"]["artifact"])
    print(f"fetch the recommended model: ftjobs pull {to_ship} DIR", file=sys.stderr)
    print(f"fetch any other model: ftjobs pull {job} STAGE DIR --store {store}", file=sys.stderr)


def _run_all(runs: list[StageRun], storage: Storage, parallel: int) -> list[Manifest]:
    from ftjobs.system.progress import log_to_stderr

    if parallel == 1:
        log_to_stderr()
        from ftjobs.execution import runner

        return runner.run_all(runs, storage)
    from rich.console import Console

    from ftjobs.cli import live_status
    from ftjobs.execution import process_pool
    from ftjobs.execution.status import stage_statuses

    console = Console(stderr=True, highlight=False, markup=False)
    log_to_stderr(console)
    with live_status.shown_below_log(runs[0].pipeline, lambda: stage_statuses(runs, storage), console):
        return process_pool.run_all(runs, storage, parallel)


@command("ftjobs stage job.yaml adapted-head --seed 42 --num-processes 2")
def stage(
    job: Job,
    name: StageName,
    seed: Seed = None,
    seed_index: SeedIndex = None,
    processes: Annotated[
        int, typer.Option("--num-processes", help="Processes on all machines together, one per GPU.")
    ] = 1,
    nodes: Annotated[int, typer.Option("--num-machines", help="Machines that run the stage together.")] = 1,
    rank: Annotated[int, typer.Option("--machine-rank", help="Rank of this machine, counted from 0.")] = 0,
    address: Annotated[
        str | None, typer.Option("--main-address", help="Host name of the machine of rank 0.", show_default=False)
    ] = None,
    port: Annotated[int, typer.Option("--main-port", help="Free port on the machine of rank 0.")] = 29500,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Run one stage, as a container does. Its inputs must be published. Prints its metrics as JSON."""
    from ftjobs.execution.topology import Topology
    from ftjobs.plan import select, select_index
    from ftjobs.system.progress import log_to_stderr

    if seed is not None and seed_index is not None:
        raise UserError(f"--seed {seed} --seed-index {seed_index}: give one of the two")
    topology = Topology(processes, nodes, rank, address, port)
    runs, storage = open_job(job, overrides, store)
    selected = select(runs, name, seed) if seed_index is None else select_index(runs, name, seed_index)
    log_to_stderr()
    from ftjobs.execution import runner

    if not topology.is_main:
        runner.assist(selected, storage, topology)
        return
    interactive = seed_index is None  # only pods give --seed-index
    metrics = json.dumps(runner.run_stage(selected, storage, topology, interactive).metrics)
    print(metrics)
    write_termination_message(metrics)


@command("ftjobs plan job.yaml --set seeds=[1,2,3]")
def plan(job: Job, overrides: Set = None, store: Store = "runs", as_json: AsJson = False) -> None:
    """Show all stages with their inputs and the work that remains. Published stages are not run again."""
    from ftjobs import artifacts
    from ftjobs.execution.status import estimate_work

    runs, storage = open_job(job, overrides, store)
    manifests = {run.key: artifacts.find_manifest(storage, run) for run in runs}
    rows: list[dict[str, Any]] = []
    for run in runs:
        published = manifests[run.key] is not None
        prepared = manifests[run.inputs.get("corpus", run.data).key] if run.has_seed else None
        rows.append(
            {
                "stage": run.stage,
                "seed": run.seed if run.has_seed else None,
                "kind": run.kind,
                "reads": sorted({read.title for read in run.inputs.values()}) if run.kind != "report" else ["all"],
                "identity": run.identity[:12],
                "published": published,
                "work": None if published else estimate_work(run, prepared),
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
    print_table(make_table(["stage", "seed", "kind", "reads", "identity", "state", "work"], cells))


@command("ftjobs status job.yaml --watch")
def status(
    job: Job,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Update until all stages are published (exit code 0) or a failure ends it (1)."),
    ] = False,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """Show the state of all stages, from storage alone. A stage is published, running, failed, ready or waiting."""
    from ftjobs.execution.status import stage_statuses

    runs, storage = open_job(job, overrides, store)
    statuses = stage_statuses(runs, storage)
    if as_json:
        print(json.dumps([stage_status.as_json() for stage_status in statuses], indent=1))
        return
    if not watch:
        rows = [[status.stage, status.seed, status.state, status.description or "-"] for status in statuses]
        print_table(make_table(["stage", "seed", "state", ""], rows))
        return
    from rich.console import Console

    from ftjobs.cli import live_status

    console = Console(highlight=False, markup=False)
    try:
        live_status.watch(runs[0].pipeline, lambda: stage_statuses(runs, storage), console)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@command("ftjobs report job.yaml --out report/")
def report(
    job: Job,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="New folder for report.html, report.json and plots.", show_default=False
        ),
    ] = None,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Print the report of a pipeline. Runs the report stage first if needed; all other stages must be published."""
    from ftjobs import artifacts
    from ftjobs.system.progress import log_to_stderr

    runs, storage = open_job(job, overrides, store)
    manifest = artifacts.find_manifest(storage, runs[-1])
    if manifest is None:
        log_to_stderr()
        from ftjobs.execution import runner

        manifest = runner.run_stage(runs[-1], storage)
    if out is not None:
        artifacts.pull(storage, manifest, out)
    print(artifacts.read_text(storage, manifest, "report.md"), end="")
