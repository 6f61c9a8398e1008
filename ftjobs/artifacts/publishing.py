"""Publishing: upload all files to a fresh attempt, then write the manifest."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ftjobs.artifacts.fetching import transfer_progress
from ftjobs.artifacts.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from ftjobs.errors import CorruptArtifact
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, parallel_map


def publish(
    storage: Storage, run: StageRun, folder: Path, metrics: dict[str, Any], environment: dict[str, str]
) -> Manifest:
    """Publish every file of `folder` as the artifact of `run`.

    Returns:
        The published manifest: the new one, or that of an attempt that published the same identity first.
    """
    attempt = secrets.token_hex(8)  # only a name: no result depends on it
    files = _upload_files(storage, run, folder, f"{run.key}/attempts/{attempt}")
    manifest = Manifest(
        pipeline=run.pipeline,
        stage=run.stage,
        kind=run.kind,
        seed=run.seed,
        identity=run.identity,
        attempt=attempt,
        settings=run.settings.model_dump(mode="json"),
        inputs={role: source.identity for role, source in run.inputs.items()},
        metrics=metrics,
        environment=environment,
        files=files,
    )
    if not storage.put_if_absent(manifest.to_json(), f"{run.key}/{MANIFEST}"):
        # Another attempt published first. This manifest was not written and never will be, so its files can be deleted.
        # After True they must stay even if another manifest is stored now: in a store that ignores the condition, a
        # write that is still in flight may be the last one. `gc` removes files that no manifest refers to.
        parallel_map(storage, storage.delete, [f"{manifest.folder}/{file.path}" for file in files])
    return read_manifest(storage, f"{run.key}/{MANIFEST}")


def _upload_files(storage: Storage, run: StageRun, folder: Path, attempt: str) -> list[FileEntry]:
    """Upload every file of `folder` below the key `attempt`, and check the stored sizes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    with transfer_progress(f"{run.title}: publishing", sum(sizes.values())) as progress:

        def upload(path: str) -> FileEntry:
            sha256 = storage.put(folder / path, f"{attempt}/{path}", progress)
            return FileEntry(path=path, size=sizes[path], sha256=sha256)

        files = parallel_map(storage, upload, sizes)
    stored_sizes = {entry.key: entry.size for entry in storage.list(attempt)}
    for file in files:
        if stored_sizes.get(f"{attempt}/{file.path}") != file.size:
            raise CorruptArtifact(f"{storage.uri(attempt)}/{file.path}: the stored file is incomplete; rerun the stage")
    return files
