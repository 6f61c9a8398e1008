"""Provenance lists every artifact, its versions, and the inputs that a new run needs."""

from __future__ import annotations

from pathlib import Path

from ftjobs.reporting.findings.provenance import provenance
from tests.helpers.published import Pipeline, guesses

STAGES = {"adapt": {"kind": "adapt"}, "one": {"kind": "classify", "encoder": "adapt"}}


def test_artifacts_have_identities_digests_and_versions(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {"one": guesses(0.7)}, stages=STAGES, seeds=[4, 9])
    published = pipeline.published()
    published["one/seed-9"] = published["one/seed-9"].model_copy(update={"environment": {"python": "3.12.0"}})
    record = provenance(pipeline.evidence(), published)
    assert [(artifact.stage, artifact.seed) for artifact in record.artifacts] == [
        ("prepare", None),
        ("adapt", 4),
        ("adapt", 9),
        ("one", 4),
        ("one", 9),
    ]
    runs = {(run.stage, run.seed if run.has_seed else None): run for run in pipeline.runs}
    for artifact in record.artifacts:
        run = runs[artifact.stage, artifact.seed]
        assert (artifact.identity, artifact.artifact) == (run.identity, run.key)
        assert artifact.weights_sha256 == "ab" * 32
    assert [(version.libraries["python"], len(version.artifacts)) for version in record.versions] == [
        ("3.11.0", 4),
        ("3.12.0", 1),
    ]
    assert record.data["commit"] == "c0ffee"
    assert record.encoder["commit"] == "beef"
    assert record.job["stages"]["one"]["encoder"] == "adapt"
    assert record.local_files == {}


def test_local_files_are_listed_by_job_file_field(tmp_path: Path) -> None:
    summary = {"provenance": {"files": []}, "encoder": {"folder": "tiny", "sha256": "00"}}
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a,b,same\n")
    source = {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}
    data = {"source": source, "text": ["a", "b"], "label": "same"}
    pipeline = Pipeline(tmp_path / "in", {"one": guesses(0.7)}, stages=STAGES, summary=summary, data=data)
    assert provenance(pipeline.evidence(), pipeline.published()).local_files == {
        "data.source.train": "a.csv",
        "data.source.test": "b.csv",
        "encoder.model": "me/encoder",
    }
