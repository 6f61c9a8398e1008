"""What was run: every artifact with its identity and digest, and what somebody else needs to run it again."""

from __future__ import annotations

from pathlib import Path

from ftjobs.reporting.inputs.provenance import what_was_run
from tests.helpers.published import Pipeline, guesses

STAGES = {"adapt": {"kind": "adapt"}, "one": {"kind": "classify", "encoder": "adapt"}}


def test_every_artifact_with_its_identity_its_weights_and_what_it_was_made_with(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {"one": guesses(0.7)}, stages=STAGES, seeds=[4, 9])
    published = pipeline.published()
    published["one/seed-9"] = published["one/seed-9"].model_copy(update={"environment": {"python": "3.12.0"}})
    found = what_was_run(pipeline.evidence(), published)
    assert [(one["stage"], one["seed"]) for one in found["artifacts"]] == [
        ("prepare", None),
        ("adapt", 4),
        ("adapt", 9),
        ("one", 4),
        ("one", 9),
    ]
    runs = {(run.stage, run.seed if run.has_seed else None): run for run in pipeline.runs}
    for one in found["artifacts"]:
        run = runs[one["stage"], one["seed"]]
        assert (one["identity"], one["artifact"]) == (run.identity, run.key)
        assert one["weights_sha256"] == "ab" * 32
    made_with = [(one["libraries"]["python"], len(one["artifacts"])) for one in found["versions"]]
    assert made_with == [("3.11.0", 4), ("3.12.0", 1)]
    assert found["data"]["commit"] == "c0ffee"
    assert found["encoder"]["commit"] == "beef"
    assert found["job"]["stages"]["one"]["encoder"] == "adapt"
    assert found["local_files"] == {}


def test_local_files_are_named_with_the_fields_that_want_them(tmp_path: Path) -> None:
    seen = {"provenance": {"files": []}, "encoder": {"folder": "tiny", "sha256": "00"}}
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("a,b,same\n")
    source = {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "b.csv")}
    data = {"source": source, "text": ["a", "b"], "label": "same"}
    pipeline = Pipeline(tmp_path / "in", {"one": guesses(0.7)}, stages=STAGES, seen=seen, data=data)
    assert what_was_run(pipeline.evidence(), pipeline.published())["local_files"] == {
        "data.source.train": "a.csv",
        "data.source.test": "b.csv",
        "encoder.model": "me/encoder",
    }
