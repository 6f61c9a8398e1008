"""What stands in the tables and curves is what the artifacts say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftjobs import statistics
from ftjobs.reporting.figures import charts
from ftjobs.reporting.findings import adaptations, classifiers
from ftjobs.reporting.text import adaptation_section
from tests.helpers.published import STAGES, Pipeline, guesses

FOUR = dict.fromkeys(STAGES, guesses(0.8))


def log_steps(folder: Path, steps: int, epochs: int) -> None:
    """Every tenth step, its loss the number of the step; epochs of equal length."""
    lines = [{"step": step, "train/loss": float(step)} for step in range(10, steps + 1, 10)]
    lines += [
        {"step": epoch * steps // epochs, "epoch": epoch, "train/epoch_loss": 1.0} for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_training_loss_is_that_of_the_logged_steps_where_there_are_enough(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, seeds=[1])
    log_steps(pipeline.inputs["head/seed-1"], 3000, 3)
    log_steps(pipeline.inputs["behavioural/seed-1"], 300, 3)
    head, behavioural, plain, _ = classifiers.results(pipeline.evidence())
    curve = head["seeds"]["1"]["training"]
    assert len(curve["loss"]) == 30  # 300 logged steps, ten in each part
    assert curve["loss"][:2] == [55.0, 155.0]
    assert curve["epoch"] == [pytest.approx(loss / 1000) for loss in curve["loss"]]
    for few in (behavioural, plain):
        assert few["seeds"]["1"]["training"] == {"epoch": [1, 2, 3], "loss": [1, 1 / 2, 1 / 3]}


def test_one_seed_has_the_interval_of_a_proportion_and_no_deviation(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, FOUR, seeds=[1]).evidence()
    found = classifiers.compared(evidence.strategies[0], evidence.strategies[0].labels)
    right = int(evidence.strategies[0].right.sum())
    expected = statistics.proportion_interval(right, 200)
    assert found == {"mean": right / 200, "sd": None, "interval": [expected.low, expected.high]}


def test_cost_is_the_mean_over_seeds_and_the_highest_memory(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    path = pipeline.inputs["head/seed-2"] / "timing.json"
    more = {"stage_seconds": 40.0, "peak_memory_bytes": 900, "processes": 2, "mixed_precision": "bf16"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    found = classifiers.cost(pipeline.evidence().strategies[0])
    assert found["stage_seconds"] == 20
    assert found["peak_memory_bytes"] == 512_000_000
    assert found["devices"] == ["2 \N{MULTIPLICATION SIGN} cpu, bf16", "cpu"]


def test_adaptation_before_and_after(tmp_path: Path) -> None:
    (found,) = adaptations.adaptation(Pipeline(tmp_path, FOUR).evidence())
    assert found["before"]["loss"] == 6.0
    assert found["after"]["loss"]["mean"] == pytest.approx(1.52)
    assert found["seeds"]["3"]["epochs"]["loss"] == pytest.approx([3.03, 1.53])


def test_how_each_adaptation_was_trained_is_said_where_they_differ(tmp_path: Path) -> None:
    words = {"kind": "adapt", "masking": "whole-word"}
    for folder, stages, said in (
        ("plain", {"a": {"kind": "adapt"}, "b": {"kind": "adapt"}}, "split."),
        ("alike", {"a": words, "b": words}, "split. Trained by masked language modeling of whole words."),
        ("mixed", {"a": {"kind": "adapt"}, "b": {**words, "mlm_probability": 0.3}}, "compare before with after, and"),
    ):
        evidence = Pipeline(tmp_path / folder, {}, stages=stages, seeds=[1]).evidence()
        section = adaptation_section.adaptation({"adaptation": adaptations.adaptation(evidence)})
        assert section is not None
        text = section.blocks[0].text
        assert said in text
        assert ("`b` by masked language modeling of whole words (30 %)" in text) == (folder == "mixed")


def test_what_objectives_measure_besides_stands_beside_it(tmp_path: Path) -> None:
    stages = {"plain": {"kind": "adapt"}, "pairs": {"kind": "adapt", "objective": "mlm+nsp"}}
    stages["electra"] = {"kind": "adapt", "objective": "replaced-token"}
    own = {"pairs": {"nsp_accuracy": 0.5}, "electra": {"replaced_accuracy": 0.9, "replaced_f1": 0.25}}
    pipeline = Pipeline(tmp_path, {}, stages=stages, seeds=[1])
    for stage, figures_ in own.items():
        path = pipeline.inputs[f"{stage}/seed-1"] / "metrics.json"
        content = json.loads(path.read_text())
        for record, more in (
            (content["before"], 0.0),
            (content["best"], 0.05),
            *((one, 0.05) for one in content["epochs"]),
        ):
            record |= {name: value + more for name, value in figures_.items()} | {"objective_loss": 9.0}
        path.write_text(json.dumps(content))
    rows = adaptations.adaptation(pipeline.evidence())
    assert [adaptation_section.own_figures(row) for row in rows] == [
        *("-", "next segments told from others 50.0 → 55.0"),
        "replaced tokens told from original ones 90.0 → 95.0; F1 of replaced tokens 25.0 → 30.0",
    ]
    assert rows[1]["seeds"]["1"]["epochs"]["objective_loss"] == [9.0] * 3
    section = adaptation_section.adaptation({"adaptation": rows})
    assert section is not None
    assert section.blocks[1].header[5] == "of the objective, %"
    assert "Masked-LM figures of `electra` are those of the generator" in section.blocks[0].text
    plain = adaptation_section.adaptation({"adaptation": rows[:1]})
    assert plain is not None
    assert "of the objective, %" not in plain.blocks[1].header
    assert charts.draw(section.blocks[-1], {"adaptation": rows}) != charts.draw(
        plain.blocks[-1], {"adaptation": rows[:1]}
    )
