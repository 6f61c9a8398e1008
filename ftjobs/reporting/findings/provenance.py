"""Provenance of a report: the resolved job, artifacts with digests, library versions and inputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.reporting.finding import OPTIONAL, Finding
from ftjobs.reporting.inputs.evidence import Evidence

_WEIGHTS = "model/model.safetensors"


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord(Finding):
    """One published artifact."""

    stage: str
    seed: int | None
    """None for stages that do not depend on a seed."""
    identity: str
    artifact: str
    """Key in the store."""
    weights_sha256: str | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class VersionSet(Finding):
    """Library versions, and the artifacts that were made with them."""

    libraries: dict[str, str]
    artifacts: list[str]


@dataclass(frozen=True, kw_only=True)
class Provenance(Finding):
    """Everything that is needed to run the pipeline again."""

    job: dict[str, Any]
    """The job file with all defaults."""
    artifacts: list[ArtifactRecord]
    versions: list[VersionSet]
    encoder: dict[str, Any]
    data: dict[str, Any]
    local_files: dict[str, str]
    """Job-file fields that name local files, with the names."""
    own_data: dict[str, dict[str, Any]] | None = field(default=None, metadata=OPTIONAL)
    """Sources of the data of intermediate tasks, by the stage that prepared them."""
    corpora: dict[str, list[dict[str, Any]]] | None = field(default=None, metadata=OPTIONAL)
    """Sources of corpora, by the stage that prepared them."""


def provenance(evidence: Evidence, published: dict[str, Manifest]) -> Provenance:
    """Return the provenance of every artifact that the report reads."""
    artifacts: list[ArtifactRecord] = []
    versions: list[VersionSet] = []
    for role, manifest in published.items():
        has_seed = manifest.kind not in ("prepare", "data", "corpus")
        weights = next((file.sha256 for file in manifest.files if file.path == _WEIGHTS), None)
        artifacts.append(
            ArtifactRecord(
                stage=manifest.stage if has_seed else role,
                seed=manifest.seed if has_seed else None,
                identity=manifest.identity,
                artifact=manifest.key,
                weights_sha256=weights,
                bytes=manifest.size,
            )
        )
        known = next((version for version in versions if version.libraries == manifest.environment), None)
        if known is None:
            versions.append(known := VersionSet(libraries=manifest.environment, artifacts=[]))
        known.artifacts.append(manifest.key)
    own_data = {evidence.report.own_data[stage.name]: stage.summary["provenance"] for stage in evidence.intermediate}
    return Provenance(
        job=evidence.report.job,
        artifacts=artifacts,
        versions=versions,
        encoder=evidence.summary["encoder"],
        data=evidence.summary["provenance"],
        local_files=_local_files(evidence),
        own_data=own_data or None,
        corpora={name: record["provenance"] for name, record in evidence.corpora.items()} or None,
    )


def _local_files(evidence: Evidence) -> dict[str, str]:
    """Return the job-file fields that name local files; URLs are left out."""
    job = evidence.report.job
    fields: dict[str, str] = {}
    sources = {"data": (evidence.summary, job["data"])}
    sources |= {
        f"stages.{stage.name}.data": (stage.summary, job["stages"][stage.name]["data"])
        for stage in evidence.intermediate
    }
    for path, (summary, data) in sources.items():
        if "files" in summary["provenance"]:
            source = data["source"]
            if isinstance(source, dict):
                fields |= {f"{path}.source.{split}": name for split, name in source.items()}
            else:
                fields[f"{path}.source"] = source
    for name in evidence.report.corpora:
        source = job["stages"][name]["corpus"]["source"]
        records = evidence.corpora[evidence.report.corpora[name]]["provenance"]
        if isinstance(source, str) and source not in {record.get("hub_id") for record in records}:
            fields[f"stages.{name}.corpus.source"] = source
    if "folder" in evidence.summary["encoder"]:
        fields["encoder.model"] = job["encoder"]["model"]
    return {field: name for field, name in fields.items() if "://" not in name}
