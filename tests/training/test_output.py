"""Records of steps and epochs in `metrics.jsonl`."""

from __future__ import annotations

import json

from ftjobs.training.output import metrics_jsonl


def test_lines_are_ordered_by_step_with_epochs_after_their_last_step() -> None:
    epochs = [
        {"epoch": 1, "train_loss": 0.7, "validation": {"accuracy": 0.5}, "test": {"accuracy": 0.4, "f1": 0.3}},
        {"epoch": 2, "train_loss": 0.6, "validation": {"accuracy": 0.6}, "test": {"accuracy": 0.5, "f1": 0.4}},
    ]
    text = metrics_jsonl([(10, 0.75, 1e-3), (20, 0.5, 5e-4)], epochs, 10)
    assert [json.loads(line) for line in text.splitlines()] == [
        {"step": 10, "train/loss": 0.75, "train/learning_rate": 1e-3},
        {
            "step": 10,
            "epoch": 1,
            "train/epoch_loss": 0.7,
            "eval/validation/accuracy": 0.5,
            "eval/test/accuracy": 0.4,
            "eval/test/f1": 0.3,
        },
        {"step": 20, "train/loss": 0.5, "train/learning_rate": 5e-4},
        {
            "step": 20,
            "epoch": 2,
            "train/epoch_loss": 0.6,
            "eval/validation/accuracy": 0.6,
            "eval/test/accuracy": 0.5,
            "eval/test/f1": 0.4,
        },
    ]


def test_metrics_before_adaptation_are_those_of_step_0() -> None:
    text = metrics_jsonl([], [{"epoch": 1, "train_loss": 2.0, "loss": 1.5, "perplexity": 4.5}], 3, {"loss": 6.0})
    assert [json.loads(line) for line in text.splitlines()] == [
        {"step": 0, "epoch": 0, "mlm/loss": 6.0},
        {"step": 3, "epoch": 1, "train/epoch_loss": 2.0, "mlm/loss": 1.5, "mlm/perplexity": 4.5},
    ]


def test_values_that_are_not_finite_are_null() -> None:
    text = metrics_jsonl([(10, float("inf"), 0.1)], [{"epoch": 1, "train_loss": 1.0, "loss": float("nan")}], 10)
    step, epoch = (json.loads(line) for line in text.splitlines())
    assert "Infinity" not in text
    assert "NaN" not in text
    assert step["train/loss"] is None
    assert epoch["mlm/loss"] is None
