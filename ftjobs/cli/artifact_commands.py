"""Commands on published artifacts: ls, pull, push, verify, gc."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjobs.cli.app import (
    AsJson,
    OptionalJob,
    Seed,
    Set,
    Store,
    command,
    find_artifact,
    make_table,
    open_scope,
    print_table,
)
from ftjobs.errors import CorruptArtifact

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.storage import Storage


@command("ftjobs ls job.yaml --store s3://bucket/runs")
def ls(
    job: OptionalJob = None,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """List published artifacts of a store or of one job."""
    from ftjobs import artifacts

    storage, pipeline, keys = open_scope(job, overrides, store)
    manifests = [
        manifest for manifest in artifacts.list_manifests(storage, pipeline) if keys is None or manifest.key in keys
    ]
    if as_json:
        print(json.dumps([_describe(manifest, storage) for manifest in manifests], indent=1))
        return
    if not manifests:
        _print_nothing_published(storage, pipeline)
    rows = [_table_row(_describe(manifest, storage)) for manifest in manifests]
    print_table(make_table(["pipeline", "stage", "seed", "kind", "identity", "bytes", "result", "where"], rows))


@command("ftjobs pull job.yaml adapted-head ./model --seed 42")
def pull(
    source_and_folder: Annotated[
        list[str],
        typer.Argument(
            metavar="(JOB STAGE | ARTIFACT-URI) DIR",
            help="Stage of a job, or artifact URI (see `ftjobs ls`), and a new folder.",
            show_default=False,
        ),
    ],
    seed: Seed = None,
    everything: Annotated[bool, typer.Option("--all", help="Also fetch metrics and predictions.")] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Fetch the model of a stage into a new folder. `from_pretrained` loads it. Rerun to resume a partial download."""
    from ftjobs import artifacts
    from ftjobs.system.progress import LOG, log_to_stderr

    log_to_stderr()
    *address, folder = source_and_folder
    usage = f"pull {' '.join(source_and_folder)}: give JOB STAGE DIR, or ARTIFACT-URI DIR"
    storage, manifest = find_artifact(address, usage, seed, overrides, store)
    artifacts.pull(storage, manifest, Path(folder), everything=everything)
    if not any(file.path.startswith("model/") for file in manifest.files):
        LOG.info("stage `%s` publishes no model; fetched all its files", manifest.stage)
    print(folder)


@command("ftjobs push job.yaml adapted-head --seed 42 --repo me/medical-questions --private")
def push(
    address: Annotated[
        list[str],
        typer.Argument(
            metavar="JOB STAGE | ARTIFACT-URI",
            help="Stage of a job, or artifact URI (see `ftjobs ls`).",
            show_default=False,
        ),
    ],
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/NAME", help="Repository; created if missing.", show_default=False)
    ],
    seed: Seed = None,
    private: Annotated[bool, typer.Option("--private", help="Create the repository as private.")] = False,
    revision: Annotated[str, typer.Option("--revision", metavar="BRANCH", help="Branch; created if missing.")] = "main",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files without contacting the Hub.")] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """Upload the model of a stage to the Hugging Face Hub. Includes its model card. Reads the token from HF_TOKEN."""
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    usage = f"push {' '.join(address)}: give JOB STAGE, or ARTIFACT-URI"
    storage, manifest = find_artifact(address, usage, seed, overrides, store)
    from ftjobs.cards import push

    if dry_run:
        push.check_repo(repo)
        files = push.checkpoint_files(manifest)
        print_table(make_table(["file", "bytes"], [[file.path.removeprefix("model/"), file.size] for file in files]))
        print(f"dry run: nothing was uploaded to {repo} at {revision}", file=sys.stderr)
        return
    pushed = push.push(storage, manifest, repo, private=private, revision=revision)
    if not pushed.changed:
        print(f"{repo} already contains identity {manifest.identity[:12]}; nothing changed", file=sys.stderr)
    print(pushed.url)


@command("ftjobs verify job.yaml")
def verify(job: OptionalJob = None, overrides: Set = None, store: Store = "runs") -> None:
    """Compare the files of published artifacts with their sha256. Lists every missing, changed or extra file."""
    from ftjobs import artifacts
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    storage, pipeline, keys = open_scope(job, overrides, store)
    published = [key for key in artifacts.list_keys(storage, pipeline) if keys is None or key in keys]
    problems = [problem for key in published for problem in artifacts.verify(storage, key)]
    if problems:
        raise CorruptArtifact(problems)
    if not published:
        _print_nothing_published(storage, pipeline)
    print(f"{len(published)} artifacts, all correct" if published else "0 artifacts")


@command("ftjobs gc job.yaml --older-than 7d --delete")
def gc(
    job: OptionalJob = None,
    older_than: Annotated[
        str, typer.Option("--older-than", metavar="AGE", help="Minimum age, such as 30m, 24h or 7d.")
    ] = "24h",
    delete: Annotated[
        bool, typer.Option("--delete/--dry-run", help="Delete the files, or only list them.", show_default="dry-run")
    ] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """List garbage, or delete it with --delete. Garbage is dead attempts, training state of published stages, and
    partial uploads."""
    from ftjobs import artifacts

    age = artifacts.parse_age(older_than)
    storage, pipeline, _ = open_scope(job, overrides, store)
    rows: list[list[Any]] = []
    for garbage in list(artifacts.find_garbage(storage, age, pipeline)):
        removed = delete and artifacts.remove_garbage(storage, garbage)
        state = "removed" if removed else "kept: published meanwhile" if delete else "would be removed"
        modified = garbage.modified.astimezone().isoformat(" ", "minutes")
        rows.append([garbage.kind, len(garbage.files), garbage.size, modified, state, storage.uri(garbage.key)])
    if not rows:
        print(f"no garbage older than {older_than} in {storage.uri(pipeline or '')}", file=sys.stderr)
    print_table(make_table(["what", "files", "bytes", "last written", "state", "where"], rows))


def _print_nothing_published(storage: Storage, pipeline: str | None) -> None:
    """Report an empty store on stderr: it may be new, or --store may be misspelled."""
    print(f"no artifacts in {storage.uri(pipeline or '')}", file=sys.stderr)


def _describe(manifest: Manifest, storage: Storage) -> dict[str, Any]:
    return {
        "pipeline": manifest.pipeline,
        "stage": manifest.stage,
        "seed": manifest.seed,
        "kind": manifest.kind,
        "identity": manifest.identity[:12],
        "bytes": manifest.size,
        "accuracy": manifest.metrics.get("accuracy"),
        "mse": manifest.metrics.get("mse"),
        "perplexity": manifest.metrics.get("best", {}).get("perplexity"),
        "where": storage.uri(manifest.folder),
    }


def _table_row(description: dict[str, Any]) -> list[Any]:
    """Merge the metrics, of which a stage has at most one, into one named result."""
    fields = dict(description)
    metrics = {name: fields.pop(name) for name in ("accuracy", "mse", "perplexity")}
    where = fields.pop("where")
    results = [f"{name} {value:.4f}" for name, value in metrics.items() if value is not None]
    return [*fields.values(), ", ".join(results) or None, where]
