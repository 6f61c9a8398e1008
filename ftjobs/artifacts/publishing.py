"""Publishing: a fresh attempt, then the manifest, alone and last."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ftjobs.artifacts.manifest import MANIFEST, FileEntry, Manifest, read_manifest
from ftjobs.artifacts.transfers import bytes_shown
from ftjobs.errors import CorruptArtifact
from ftjobs.plan import StageRun
from ftjobs.storage import Storage, in_parallel


def publish(
    storage: Storage, run: StageRun, folder: Path, metrics: dict[str, Any], environment: dict[str, str]
) -> Manifest:
    """Publish every file of `folder` as the artifact of `run`.

    Returns the published manifest: this one, or the one of whoever published the same identity first.
    """
    attempt = secrets.token_hex(8)  # a name only: nothing is computed from it
    files = _store(storage, run, folder, f"{run.key}/attempts/{attempt}")
    manifest = Manifest(
        pipeline=run.pipeline,
        stage=run.stage,
        kind=run.kind,
        seed=run.seed,
        identity=run.identity,
        attempt=attempt,
        settings=run.settings.model_dump(mode="json"),
        inputs={role: read.identity for role, read in run.inputs.items()},
        metrics=metrics,
        environment=environment,
        files=files,
    )
    if not storage.put_if_absent(manifest.sealed(), f"{run.key}/{MANIFEST}"):
        # Somebody else published first and theirs counts. Ours was not written and never will be, so its files can
        # go. In the other case they stay even if another manifest is there now: on a store that ignores the
        # condition, a write of ours that is still on its way may be the last. What nobody names, `gc` removes.
        in_parallel(storage, storage.delete, [f"{manifest.folder}/{file.path}" for file in files])
    return read_manifest(storage, f"{run.key}/{MANIFEST}")


def _store(storage: Storage, run: StageRun, folder: Path, attempt: str) -> list[FileEntry]:
    """Store every file of `folder` below the key `attempt`, hashed on the way; checked to be stored whole."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    with bytes_shown(f"{run.title}: publishing", sum(sizes.values())) as advance:

        def put(path: str) -> FileEntry:
            digest = storage.put(folder / path, f"{attempt}/{path}", advance)
            return FileEntry(path=path, size=sizes[path], sha256=digest)

        files = in_parallel(storage, put, sizes)
    stored = {entry.key: entry.size for entry in storage.list(attempt)}
    for file in files:
        if stored.get(f"{attempt}/{file.path}") != file.size:
            raise CorruptArtifact(f"{storage.uri(attempt)}/{file.path}: not stored whole; run the stage again")
    return files
