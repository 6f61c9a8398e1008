"""What is logged of training, and `metrics.jsonl`."""

from __future__ import annotations

import json

from ftjobs.training import records


def test_lines_are_in_the_order_of_steps_and_an_epoch_stands_after_its_last_step() -> None:
    epochs = [
        {"epoch": 1, "train_loss": 0.7, "validation": {"accuracy": 0.5}, "test": {"accuracy": 0.4, "f1": 0.3}},
        {"epoch": 2, "train_loss": 0.6, "validation": {"accuracy": 0.6}, "test": {"accuracy": 0.5, "f1": 0.4}},
    ]
    text = records.jsonl([(10, 0.75, 1e-3), (20, 0.5, 5e-4)], epochs, 10)
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


def test_adaptation_starts_from_what_was_measured_before_it() -> None:
    text = records.jsonl([], [{"epoch": 1, "train_loss": 2.0, "loss": 1.5, "perplexity": 4.5}], 3, {"loss": 6.0})
    assert [json.loads(line) for line in text.splitlines()] == [
        {"step": 0, "epoch": 0, "mlm/loss": 6.0},
        {"step": 3, "epoch": 1, "train/epoch_loss": 2.0, "mlm/loss": 1.5, "mlm/perplexity": 4.5},
    ]


def test_what_is_not_finite_is_null_because_json_has_no_word_for_it() -> None:
    text = records.jsonl([(10, float("inf"), 0.1)], [{"epoch": 1, "train_loss": 1.0, "loss": float("nan")}], 10)
    step, epoch = (json.loads(line) for line in text.splitlines())
    assert "Infinity" not in text
    assert "NaN" not in text
    assert step["train/loss"] is None
    assert epoch["mlm/loss"] is None
