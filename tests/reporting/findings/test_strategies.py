"""Results of strategies are those of the artifacts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftjobs import statistics
from ftjobs.reporting.findings.strategies import score_estimate, strategy_results, training_cost
from tests.helpers.published import STAGES, Pipeline, guesses

FOUR = dict.fromkeys(STAGES, guesses(0.8))


def log_steps(folder: Path, steps: int, epochs: int) -> None:
    """Log every tenth step, with the number of the step as its loss; epochs have equal lengths."""
    lines = [{"step": step, "train/loss": float(step)} for step in range(10, steps + 1, 10)]
    lines += [
        {"step": epoch * steps // epochs, "epoch": epoch, "train/epoch_loss": 1.0} for epoch in range(1, epochs + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_training_curve_averages_logged_steps_if_there_are_enough(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, seeds=[1])
    log_steps(pipeline.inputs["head/seed-1"], 3000, 3)
    log_steps(pipeline.inputs["behavioural/seed-1"], 300, 3)
    long, short, unlogged, _ = (result.seeds["1"].training for result in strategy_results(pipeline.evidence()))
    assert len(long.loss) == 30  # 300 logged steps, ten per point
    assert long.loss[:2] == [55.0, 155.0]
    assert long.epoch == [pytest.approx(loss / 1000) for loss in long.loss]
    for by_epoch in (short, unlogged):
        assert (by_epoch.epoch, by_epoch.loss) == ([1, 2, 3], [1, 1 / 2, 1 / 3])


def test_one_seed_has_the_interval_of_a_proportion_and_no_deviation(tmp_path: Path) -> None:
    strategy = Pipeline(tmp_path, FOUR, seeds=[1]).evidence().strategies[0]
    estimate = score_estimate(strategy, strategy.labels)
    right = int(strategy.right.sum())
    expected = statistics.proportion_interval(right, 200)
    assert (estimate.mean, estimate.sd) == (right / 200, None)
    assert estimate.interval == (expected.low, expected.high)


def test_cost_is_the_mean_over_seeds_and_the_highest_memory(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    timing = {"stage_seconds": 40.0, "peak_memory_bytes": 900, "processes": 2, "mixed_precision": "bf16"}
    pipeline.update("head", 2, "timing.json", **timing)
    cost = training_cost(pipeline.evidence().strategies[0])
    assert cost.stage_seconds == 20
    assert cost.peak_memory_bytes == 512_000_000
    assert cost.devices == ["2 \N{MULTIPLICATION SIGN} cpu, bf16", "cpu"]


def test_json_keys_are_named_after_the_metric(tmp_path: Path) -> None:
    result = strategy_results(Pipeline(tmp_path, FOUR).evidence())[0]
    assert list(result.json_fields()) == [
        *("stage", "adapted", "frozen", "accuracy", "f1", "best_epochs", "last_epoch_accuracy", "selected_on"),
        *("selection_accuracy", "cost", "seeds", "published"),
    ]
    assert list(result.seeds["1"].json_fields()) == [
        *("accuracy", "f1", "loss", "best_epoch", "last", "selection_accuracy", "training", "epochs"),
    ]
