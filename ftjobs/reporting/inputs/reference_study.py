"""Published figures of the reference study, for jobs that repeat it.

Adaptive and behavioural fine-tuning of bert-base-cased on curai's medical question pairs: accuracy of the best epoch on
214 test pairs with one seed; the best epoch was chosen on the same pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftjobs.jobfile.fields import Classify
from ftjobs.reporting.finding import Finding
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
#: Settings that the study did not have; a stage repeats the study only with their defaults.
_LATER_SETTINGS = (
    *("encoder_dropout", "unfreeze", "layer_decay", "reinitialise_layers"),
    *("early_stopping", "class_weights", "label_smoothing"),
)


@dataclass(frozen=True, kw_only=True)
class PublishedResult(Finding):
    """A result of the study."""

    accuracy: float
    best_epoch: int


def published_results(evidence: Evidence) -> dict[str, PublishedResult]:
    """Return the study's result for each stage with the study's settings; empty unless the data is the study's too.

    Neither the job's name nor its encoder matters: see `other_encoder`.
    """
    if not _same_data(evidence):
        return {}
    results = {}
    defaults = {name: field.default for name, field in Classify.model_fields.items() if name in _LATER_SETTINGS}
    for strategy in evidence.strategies:
        lineage = [evidence.report.job["stages"][name] for name in evidence.lineage(strategy.name)]
        if len(lineage) > 1 or not _has({**defaults, **strategy.settings}, {**_CLASSIFY, **defaults}):
            continue
        if all(_has(settings, _ADAPT) for settings in lineage):
            accuracy, epoch = _PUBLISHED[bool(lineage), strategy.settings["freeze_encoder"]]
            results[strategy.name] = PublishedResult(accuracy=accuracy, best_epoch=epoch)
    return results


def other_encoder(evidence: Evidence) -> str | None:
    """Return the name of the job's encoder unless it is the study's."""
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
