"""Tables of adapt stages with different objectives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.text import adaptation_section
from ftjobs.reporting.text.blocks import Prose, Table
from tests.helpers.published import Pipeline, guesses

WHOLE_WORDS = {"kind": "adapt", "masking": "whole-word"}


def note_and_table(findings: Findings) -> tuple[str, Table]:
    section = adaptation_section.adaptation(findings)
    assert section is not None
    prose, table = section.blocks[:2]
    assert isinstance(prose, Prose)
    assert isinstance(table, Table)
    return prose.text, table


@pytest.mark.parametrize(
    ("stages", "is_named", "is_comparable"),
    [
        ({"a": {"kind": "adapt"}, "b": {"kind": "adapt"}}, False, True),
        ({"a": WHOLE_WORDS, "b": WHOLE_WORDS}, True, True),
        ({"a": {"kind": "adapt"}, "b": {**WHOLE_WORDS, "mlm_probability": 0.3}}, True, False),
    ],
    ids=["plain", "same", "different"],
)
def test_objectives_are_named_unless_all_are_plain(
    tmp_path: Path, stages: dict[str, Any], is_named: bool, is_comparable: bool
) -> None:
    text, _ = note_and_table(Pipeline(tmp_path, {}, stages=stages, seeds=[1]).findings())
    assert ("whole words" in text) == is_named
    assert ("(30 %): `b`" in text) == (not is_comparable)


def test_objectives_add_metrics(tmp_path: Path) -> None:
    stages = {"plain": {"kind": "adapt"}, "pairs": {"kind": "adapt", "objective": "mlm+nsp"}}
    stages["electra"] = {"kind": "adapt", "objective": "replaced-token"}
    pipeline = Pipeline(tmp_path, {}, stages=stages, seeds=[1])
    added = {"pairs": {"nsp_accuracy": 0.5}, "electra": {"replaced_accuracy": 0.9, "replaced_f1": 0.25}}
    for stage, metrics in added.items():
        recorded = json.loads((pipeline.inputs[f"{stage}/seed-1"] / "metrics.json").read_text())
        after = {name: value + 0.05 for name, value in metrics.items()} | {"objective_loss": 9.0}
        pipeline.update(
            stage,
            1,
            "metrics.json",
            before=recorded["before"] | metrics | {"objective_loss": 9.0},
            best=recorded["best"] | after,
            epochs=[epoch | after for epoch in recorded["epochs"]],
        )
    findings = pipeline.findings()
    plain, pairs, electra = (adaptation_section.objective_figures(result) for result in findings.adaptation)
    assert plain == "-"
    assert pairs.endswith("50.0 → 55.0")
    assert ["90.0 → 95.0" in electra, "25.0 → 30.0" in electra] == [True, True]
    assert findings.adaptation[1].seeds["1"].epochs["objective_loss"] == [9.0] * 3
    text, table = note_and_table(findings)
    assert table.header[5] == "of the objective, %"
    assert "For `electra`, " in text


def test_early_stopping_is_noted_for_all_kinds_of_stages(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt", "epochs": 5, "early_stopping": 1},
        "tuned": {"kind": "classify", "epochs": 6, "early_stopping": 2},
    }
    pipeline = Pipeline(tmp_path / "in", {"tuned": guesses(0.8)}, stages=stages)
    for stage, lengths in (("adapt", (2, 5, 3)), ("tuned", (4, 6, 4))):
        for seed, length in enumerate(lengths, start=1):
            path = pipeline.inputs[f"{stage}/seed-{seed}"] / "metrics.json"
            epochs = json.loads(path.read_text())["epochs"][:length]
            pipeline.update(stage, seed, "metrics.json", epochs=epochs, epochs_run=length, best_epoch=2)
    assert set(pipeline.report(tmp_path / "out")["stages"]) == {"tuned"}
    text = (tmp_path / "out/report.md").read_text()
    assert "`tuned` after epoch 4, 6 and 4 of 6." in text
    assert "`adapt` after epoch 2, 5 and 3 of 5." in text
