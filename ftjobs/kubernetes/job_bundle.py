"""The job file as pods get it: overrides applied, only what a stage needs, its local data files packed beside it.

A pod plans from this copy and must find the identities that were found at the desk. Local files count by content and
name, so they may lie elsewhere: in a pod under /files, beside /job with the job file.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files, yaml_text
from ftjobs.jobfile.data_mappings import data_mappings, each_source
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.implicit_stages import provided_by
from ftjobs.kubernetes.stage_jobs import StageJob

#: Where pods find the job file, and the unpacked data files.
FILE, JOB_FOLDER, FILES_FOLDER = "job.yaml", "/job", "/files"
#: Most bytes of packed data files. `kubectl apply` keeps a copy of an object in its annotations, of which the API
#: server takes 256 KiB (TotalAnnotationSizeLimitB); in base64 this is 250,000 of them.
MAX_PACKED = 187_500


class JobBundle:
    """A validated job, ready to be handed to pods.

    Raises:
        UserError: it names an encoder on this machine, or more data than fits into a ConfigMap.
    """

    def __init__(self, job: Job) -> None:
        if job.encoder.model is not None and local_files.is_local(job.encoder.model):
            raise UserError(
                f"encoder.model: {job.encoder.model} is a folder on this machine, which pods do not see; upload it "
                "and give its s3:// address, or give a hub id"
            )
        self._job, self._derived = job, provided_by(job)
        self._data: dict[str, Any] = job.model_dump(mode="json", exclude_unset=True)
        self._paths: dict[str, Path] = {}
        self._addresses: dict[str, str] = {}
        fields = []
        for path, mapping in data_mappings(self._data):
            folder = "" if len(path) == 1 else f"{'.'.join(path)}/"
            before = len(self._paths)
            mapping["source"] = each_source(mapping["source"], partial(self._moved, folder=folder))
            fields += [f"{'.'.join(path)}.source"] if len(self._paths) > before else []
        self.packed = _pack(self._paths) if self._paths else None
        """The local data files as a tar archive, None if there are none."""
        if self.packed is not None and len(self.packed) > MAX_PACKED:
            raise UserError(
                f"{', '.join(fields)}: the files have {len(self.packed) / 1e3:.0f} kB when packed, and "
                f"{MAX_PACKED / 1e3:.0f} fit into a ConfigMap; upload them and set {fields[-1]} to their s3:// address"
            )

    def whole(self) -> str:
        """The job file with all stages."""
        return yaml_text.dump(self._data)

    def of(self, stage: StageJob) -> str:
        """The job file for one stage: itself, the stages whose encoders it builds on, and those that stages which bring
        data for it are named after. A stage that does not change keeps its copy whatever else changes in the job.
        Stages without seeds get the whole."""
        if not stage.runs[0].has_seed:
            return self.whole()
        names: set[str] = set()
        wanted: list[str | None] = [stage.stage]
        while wanted:
            name = wanted.pop()
            if name is not None and name not in names:
                names.add(name)
                read = self._derived.get(name)
                wanted += [self._job.stage_encoder(name), read.readers[0] if read else None]
        kinds = {self._job.stages[name].kind for name in names}
        data = {key: value for key, value in self._data.items() if key != "hypotheses"}
        if "defaults" in data:
            data["defaults"] = {kind: value for kind, value in data["defaults"].items() if kind in kinds}
        data["stages"] = {name: value for name, value in data["stages"].items() if name in names}
        return yaml_text.dump(data)

    def _moved(self, source: str, part: str, *, folder: str) -> str:
        """The address of a source in pods, one for each source: data that is shared stays so. Its local files are noted
        for packing, with their names kept."""
        if not local_files.is_local(source):
            return source
        folder += f"{part}/" if part else ""
        if source in self._addresses:
            return self._addresses[source]
        path = Path(os.path.abspath(os.path.expanduser(source)))
        files = [Path(os.path.abspath(file)) for file in local_files.expand(source)]
        if path.is_dir():
            root, moved = path, f"{folder}{path.name}"
            folder = f"{moved}/"
        elif path.is_file():
            root, moved = path.parent, f"{folder}{path.name}"
        else:
            root = _fixed_part(path)
            moved = f"{folder}{path.relative_to(root).as_posix()}"
        for file in files:
            self._paths[f"{folder}{file.relative_to(root).as_posix()}"] = file
        self._addresses[source] = f"..{FILES_FOLDER}/{moved}"
        return self._addresses[source]


def _fixed_part(pattern: Path) -> Path:
    """The folder above the first part of a path that has a glob character."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _pack(paths: dict[str, Path]) -> bytes:
    """A tar archive with the same bytes for the same files. bzip2 has had one implementation and one output for years,
    which zlib, with its many forks, has not."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:bz2", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(paths.items()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)  # of no owner and from 1970
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def short_hash(*parts: str | bytes) -> str:
    """8 hex digits that name content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:8]
