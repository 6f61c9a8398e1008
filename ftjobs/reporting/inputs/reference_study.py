"""The published figures of the study that the project was founded on, for jobs that repeat it.

Adaptive and behavioural fine-tuning of bert-base-cased on curai's medical question pairs: accuracy at the best epoch on
214 test pairs, one seed, the best epoch chosen on those same pairs.
"""

from __future__ import annotations

from typing import Any

from ftjobs.jobfile.fields import Classify
from ftjobs.reporting.inputs.evidence import Evidence

ENCODER = "bert-base-cased"
#: (adapted first, encoder frozen) -> accuracy and best epoch.
_PUBLISHED = {
    (False, True): (0.6822, 8),
    (False, False): (0.8224, 4),
    (True, True): (0.6963, 5),
    (True, False): (0.8505, 5),
}
_TEXT = ["question_1", "question_2"]
_ROWS = {"train": 2834, "test": 214}
_SPLIT = {"test_fraction": 0.07, "seed": 42}
_COMMON = {
    "epochs": 8,
    "gradient_accumulation_steps": 1,
    "weight_decay": 0.01,
    "max_grad_norm": 1.0,
    "schedule": "linear",
    "warmup_steps": 0,
}
_CLASSIFY = {**_COMMON, "kind": "classify", "per_device_batch_size": 8, "learning_rate": 2e-5}
_ADAPT = {**_COMMON, "kind": "adapt", "per_device_batch_size": 16, "learning_rate": 1e-5, "mlm_probability": 0.15}
#: Settings of ours that the study had no notion of.
_NOT_THERE = (
    *("encoder_dropout", "unfreeze", "layer_decay", "reinitialise_layers"),
    *("early_stopping", "class_weights", "label_smoothing"),
)


def published(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """Stage -> `accuracy` and `best_epoch` of the study, where data and stage settings are the study's; else nothing.

    Whatever the job is called. Its encoder may be another, as where there is no network: `encoder_differs` says so.
    """
    if not _same_data(evidence):
        return {}
    found = {}
    plain = {name: one.default for name, one in Classify.model_fields.items() if name in _NOT_THERE}
    for strategy in evidence.strategies:
        lineage = [evidence.report.job["stages"][name] for name in evidence.lineage(strategy.name)]
        settings = {**plain, **strategy.settings}
        if len(lineage) > 1 or not _has(settings, {**_CLASSIFY, **plain}):
            continue
        if all(_has(one, _ADAPT) for one in lineage):
            accuracy, epoch = _PUBLISHED[bool(lineage), strategy.settings["freeze_encoder"]]
            found[strategy.name] = {"accuracy": accuracy, "best_epoch": epoch}
    return found


def encoder_differs(evidence: Evidence) -> str | None:
    """Name of the job's encoder where it is not the study's."""
    origin = evidence.summary["encoder"]
    name = str(origin.get("model") or origin.get("folder") or "an encoder made from scratch")
    return None if name.rsplit("/", 1)[-1] == ENCODER else name


def _same_data(evidence: Evidence) -> bool:
    summary = evidence.summary
    split = summary["split"]
    return (
        summary["rows"] == _ROWS
        and summary["text_columns"] == _TEXT
        and split["group_by"] is None
        and _has(split, _SPLIT)
    )


def _has(settings: dict[str, Any], expected: dict[str, Any]) -> bool:
    return all(settings[key] == value for key, value in expected.items())
