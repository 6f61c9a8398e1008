"""Job bundle: the job file that pods read, with overrides applied, reduced to one stage, and with local data packed.

A pod plans from the bundle and must compute the same identities as the machine that rendered it. Local files count by
name and content, so their folder may differ: pods mount the job file in /job and the data files in /files.
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
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.implicit_stages import provided_by
from ftjobs.jobfile.local_files import data_mappings, map_source
from ftjobs.kubernetes.stage_jobs import StageJob

#: Name of the job file, the folder that pods mount it in, and the folder of the unpacked data files.
FILE, JOB_FOLDER, FILES_FOLDER = "job.yaml", "/job", "/files"
#: Size limit of packed data files, in bytes. `kubectl apply` stores a copy of each object in its annotations, which the
#: API server limits to 256 KiB (TotalAnnotationSizeLimitB); base64 expands this limit to 250,000 bytes.
MAX_PACKED = 187_500


class JobBundle:
    """A validated job, as it is handed to pods.

    Raises:
        UserError: the encoder is a local folder, or the local data does not fit into a ConfigMap.
    """

    def __init__(self, job: Job) -> None:
        if job.encoder.model is not None and local_files.is_local(job.encoder.model):
            raise UserError(
                f"encoder.model: {job.encoder.model} is a folder on this machine, which pods cannot read; upload it "
                "and set its s3:// address, or set a hub id"
            )
        self._job, self._implicit = job, provided_by(job)
        self._data: dict[str, Any] = job.model_dump(mode="json", exclude_unset=True)
        self._paths: dict[str, Path] = {}
        self._addresses: dict[str, str] = {}
        fields = []
        for path, mapping in data_mappings(self._data):
            folder = "" if len(path) == 1 else f"{'.'.join(path)}/"
            count = len(self._paths)
            mapping["source"] = map_source(mapping["source"], partial(self._relocate, folder=folder))
            fields += [f"{'.'.join(path)}.source"] if len(self._paths) > count else []
        self.archive = _pack(self._paths) if self._paths else None
        """The local data files as a tar archive, None without local data."""
        if self.archive is not None and len(self.archive) > MAX_PACKED:
            raise UserError(
                f"{', '.join(fields)}: the packed files have {len(self.archive) / 1e3:.0f} kB, above the limit of "
                f"{MAX_PACKED / 1e3:.0f} kB for a ConfigMap; upload them and set {fields[-1]} to their s3:// address"
            )

    def full_job_file(self) -> str:
        """Return the job file with all stages."""
        return yaml_text.dump(self._data)

    def stage_job_file(self, stage: StageJob) -> str:
        """Return the job file reduced to one stage: the stage, the stages whose encoders it builds on, and the stages
        that the data it reads is named after. An unchanged stage keeps its file when other stages change. Stages
        without seeds get the full file."""
        if not stage.runs[0].has_seed:
            return self.full_job_file()
        names: set[str] = set()
        pending: list[str | None] = [stage.stage]
        while pending:
            name = pending.pop()
            if name is not None and name not in names:
                names.add(name)
                implicit = self._implicit.get(name)
                pending += [self._job.stage_encoder(name), implicit.readers[0] if implicit else None]
        kinds = {self._job.stages[name].kind for name in names}
        data = {key: value for key, value in self._data.items() if key != "hypotheses"}
        if "defaults" in data:
            data["defaults"] = {kind: value for kind, value in data["defaults"].items() if kind in kinds}
        data["stages"] = {name: value for name, value in data["stages"].items() if name in names}
        return yaml_text.dump(data)

    def _relocate(self, source: str, part: str, *, folder: str) -> str:
        """Return a source's address inside pods, and register its local files for packing under their names. A source
        that several stages share keeps one address."""
        if not local_files.is_local(source):
            return source
        folder += f"{part}/" if part else ""
        if source in self._addresses:
            return self._addresses[source]
        path = Path(os.path.abspath(os.path.expanduser(source)))
        files = [Path(os.path.abspath(file)) for file in local_files.expand(source)]
        if path.is_dir():
            root, address = path, f"{folder}{path.name}"
            folder = f"{address}/"
        elif path.is_file():
            root, address = path.parent, f"{folder}{path.name}"
        else:
            root = _fixed_part(path)
            address = f"{folder}{path.relative_to(root).as_posix()}"
        for file in files:
            self._paths[f"{folder}{file.relative_to(root).as_posix()}"] = file
        self._addresses[source] = f"..{FILES_FOLDER}/{address}"
        return self._addresses[source]


def _fixed_part(pattern: Path) -> Path:
    """Return the folder above the first path component with a glob character."""
    while glob.has_magic(str(pattern)):
        pattern = pattern.parent
    return pattern


def _pack(paths: dict[str, Path]) -> bytes:
    """Pack files into a tar archive, byte-identical for identical files. bzip2, because its one implementation gives
    stable output, unlike zlib and its forks."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:bz2", format=tarfile.USTAR_FORMAT) as tar:
        for name, path in sorted(paths.items()):
            content = path.read_bytes()
            entry = tarfile.TarInfo(name)  # no owner, modification time 0
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def short_hash(*parts: str | bytes) -> str:
    """Return 8 hex digits that identify content."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:8]
