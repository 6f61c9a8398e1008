"""What was run, so that somebody else can run it again: the job, identities, digests, versions and devices."""

from __future__ import annotations

from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.reporting.inputs.evidence import Evidence

_WEIGHTS = "model/model.safetensors"


def what_was_run(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """The job as resolved, and for every artifact its key, identity, the sha256 of its weights and where it was made.

    `versions` holds each set of library versions once, with the artifacts that were made with it.
    """
    artifacts = []
    versions: list[dict[str, Any]] = []
    for role, manifest in published.items():
        stage, seed = (
            (role, None) if manifest.kind in ("prepare", "data", "corpus") else (manifest.stage, manifest.seed)
        )
        artifacts.append(
            {
                "stage": stage,
                "seed": seed,
                "identity": manifest.identity,
                "artifact": manifest.key,
                "weights_sha256": next((file.sha256 for file in manifest.files if file.path == _WEIGHTS), None),
                "bytes": manifest.size,
            }
        )
        known = next((one for one in versions if one["libraries"] == manifest.environment), None)
        if known is None:
            versions.append(known := {"libraries": manifest.environment, "artifacts": []})
        known["artifacts"].append(manifest.key)
    return {
        "job": evidence.report.job,
        "artifacts": artifacts,
        "versions": versions,
        "encoder": evidence.summary["encoder"],
        "data": evidence.summary["provenance"],
        "local_files": local_files(evidence),
        **({"own_data": _own_data(evidence)} if evidence.intermediate else {}),
        **(
            {"corpora": {name: one["provenance"] for name, one in evidence.corpora.items()}} if evidence.corpora else {}
        ),
    }


def _own_data(evidence: Evidence) -> dict[str, Any]:
    """The stages that brought data of its own to others, and where that came from."""
    return {evidence.report.own_data[one.name]: one.summary["provenance"] for one in evidence.intermediate}


def local_files(evidence: Evidence) -> dict[str, str]:
    """Fields of the job that name local files, with the name that the job in the report gives them."""
    fields: dict[str, str] = {}
    job = evidence.report.job
    given = {"data": (evidence.summary, job["data"])}
    given |= {
        f"stages.{one.name}.data": (one.summary, job["stages"][one.name]["data"]) for one in evidence.intermediate
    }
    for path, (summary, data) in given.items():
        if "files" in summary["provenance"]:
            source = data["source"]
            sources = (
                {f"{path}.source.{split}": one for split, one in source.items()} if isinstance(source, dict) else {}
            )
            fields |= sources or {f"{path}.source": source}
    for name in evidence.report.corpora:
        source = job["stages"][name]["corpus"]["source"]
        known = {one.get("hub_id") for one in evidence.corpora[evidence.report.corpora[name]]["provenance"]}
        if isinstance(source, str) and source not in known:
            fields[f"stages.{name}.corpus.source"] = source
    if "folder" in evidence.summary["encoder"]:
        fields["encoder.model"] = evidence.report.job["encoder"]["model"]
    return {field: name for field, name in fields.items() if "://" not in name}
