"""Commands on what is in storage: list it, fetch it, check it, clean up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ftjobs.cli.app import AsJson, OneJob, Seed, Set, Store, app, artifact_of, part_of_store
from ftjobs.cli.tables import aligned, print_table
from ftjobs.errors import CorruptArtifact

if TYPE_CHECKING:
    from ftjobs.artifacts import Manifest
    from ftjobs.storage import Storage


@app.command()
def ls(
    job: OneJob = None,
    overrides: Set = None,
    store: Store = "runs",
    as_json: AsJson = False,
) -> None:
    """List what is published: every pipeline in the store, or one job's."""
    from ftjobs import artifacts

    pipeline, wanted, storage = part_of_store(job, overrides, store)
    found = [one for one in artifacts.listing(storage, pipeline) if wanted is None or one.key in wanted]
    if as_json:
        print(json.dumps([_describe(manifest, storage) for manifest in found], indent=1))
        return
    if not found:
        _say_that_nothing_is_there(storage, pipeline)
    rows = [list(_in_words(_describe(manifest, storage)).values()) for manifest in found]
    print_table(aligned(["pipeline", "stage", "seed", "kind", "identity", "bytes", "result", "where"], rows))


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
    from ftjobs.system.progress import LOG, log_to_stderr

    log_to_stderr()
    form = f"pull {' '.join(what)}: give JOB STAGE DIR, or ARTIFACT-URI DIR"
    storage, manifest = artifact_of(what[:-1], form, seed, overrides, store)
    artifacts.pull(storage, manifest, Path(what[-1]), everything=everything)
    if not any(file.path.startswith("model/") for file in manifest.files):
        LOG.info("stage `%s` publishes no model; these are all its files", manifest.stage)
    print(what[-1])


@app.command()
def verify(job: OneJob = None, overrides: Set = None, store: Store = "runs") -> None:
    """Read again what is published and compare it with its sha256; name every file that is not right."""
    from ftjobs import artifacts
    from ftjobs.system.progress import log_to_stderr

    log_to_stderr()
    pipeline, wanted, storage = part_of_store(job, overrides, store)
    found = [key for key in artifacts.published(storage, pipeline) if wanted is None or key in wanted]
    problems = [problem for key in found for problem in artifacts.verify(storage, key)]
    if problems:
        raise CorruptArtifact(problems)
    if not found:
        _say_that_nothing_is_there(storage, pipeline)
    print(f"{len(found)} artifacts, all right" if found else "0 artifacts")


@app.command()
def gc(
    job: OneJob = None,
    older_than: Annotated[str, typer.Option("--older-than", metavar="AGE", help="30m, 24h, 7d")] = "24h",
    delete: Annotated[
        bool, typer.Option("--delete/--dry-run", help="Remove it, or only say what would go.", show_default="dry-run")
    ] = False,
    overrides: Set = None,
    store: Store = "runs",
) -> None:
    """List, or with --delete remove, what nobody will read: dead attempts, old state, unfinished uploads."""
    from ftjobs import artifacts

    age = artifacts.age(older_than)
    pipeline, _, storage = part_of_store(job, overrides, store)
    rows: list[list[Any]] = []
    for found in list(artifacts.dead(storage, age, pipeline)):
        gone = delete and artifacts.remove(storage, found)
        state = "removed" if gone else "kept: published meanwhile" if delete else "would go"
        when = found.modified.astimezone().isoformat(" ", "minutes")
        rows.append([found.what, len(found.files), found.size, when, state, storage.uri(found.folder)])
    if not rows:
        print(f"nothing in {storage.uri(pipeline or '')} is dead for longer than {older_than}", file=sys.stderr)
    print_table(aligned(["what", "files", "bytes", "last written", "state", "where"], rows))


def _say_that_nothing_is_there(storage: Storage, pipeline: str | None) -> None:
    """An empty answer is right for a new store, and looks the same where --store is mistyped."""
    print(f"nothing is published in {storage.uri(pipeline or '')}", file=sys.stderr)


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


def _in_words(described: dict[str, Any]) -> dict[str, Any]:
    """The same with one result, named, in place of three of which a stage has at most one."""
    results = {name: described.pop(name) for name in ("accuracy", "mse", "perplexity")}
    where = described.pop("where")
    said = [f"{name} {value:.4f}" for name, value in results.items() if value is not None]
    return {**described, "result": ", ".join(said) or None, "where": where}
