"""The block of YAML at the top of a card, which the hub reads."""

from __future__ import annotations

import math
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from ftjobs.cards.made import CardContext
from ftjobs.jobfile.fields import OBJECTIVE_FIGURES

_TASKS = {"adapt": "fill-mask", "classify": "text-classification"}


def card_data(made: CardContext) -> ModelCardData:
    """The card's metadata; the metrics stand in its `model-index`."""
    results = _results(made)
    hub_data = made.data["provenance"].get("hub_id")
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=None if made.finds_replaced else _TASKS.get(made.run.kind),
        base_model=made.base_model,
        datasets=[hub_data] if hub_data else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["ftjobs", *(["domain-adaptation"] if made.run.kind == "adapt" else [])],
        model_name=made.name,
        eval_results=results or None,
        license=made.base.get("license"),
        license_name=made.base.get("license_name"),
        license_link=made.base.get("license_link"),
    )


def _results(made: CardContext) -> list[EvalResult]:
    metrics = made.metrics
    found: list[tuple[str, str, float, dict[str, Any] | None]]
    if made.run.kind == "adapt":
        split = metrics["evaluated_on"] if made.corpus is None else "held-out"
        best = metrics["best"]
        found = [] if made.finds_replaced else [("perplexity", "Perplexity of masked tokens", best["perplexity"], None)]
        found += [
            (key.rpartition("_")[2], name[0].upper() + name[1:], best[key], None)
            for key, name in OBJECTIVE_FIGURES.items()
            if key in best
        ]
    elif made.run.kind == "classify":
        split, found = "test", _classified(made)
    else:
        return []
    return [
        _result(made, split, type=metric, name=name, value=value, args=arguments)
        for metric, name, value, arguments in found
        if math.isfinite(value)
    ]


def _classified(made: CardContext) -> list[tuple[str, str, float, dict[str, Any] | None]]:
    """Metrics by the names that the hub knows them by."""
    metrics = made.metrics
    if made.label_type == "float":
        return [
            ("mse", "Mean squared error", metrics["mse"], None),
            ("pearsonr", "Pearson correlation", metrics["pearson"], None),
            ("spearmanr", "Spearman correlation", metrics["spearman"], None),
        ]
    if made.label_type == "multi":
        return [
            ("accuracy", "Subset accuracy", metrics["accuracy"], None),
            ("f1", "F1 (micro)", metrics["f1"], {"average": "micro"}),
            ("f1", "F1 (macro)", metrics["f1_macro"], {"average": "macro"}),
        ]
    average = "binary" if len(made.classes) == 2 else "macro"
    return [
        ("accuracy", "Accuracy", metrics["accuracy"], None),
        ("f1", f"F1 ({average})", metrics["f1"], {"average": average}),
    ]


def _result(
    made: CardContext, split: str, *, type: str, name: str, value: float, args: dict[str, Any] | None
) -> EvalResult:
    provenance, source = made.data["provenance"], made.source
    if made.corpus is not None:
        provenance = made.corpus["provenance"][0]
        source = provenance.get("hub_id") or provenance["name"]
    task = _TASKS[made.run.kind]
    return EvalResult(
        task_type=task,
        task_name=task.replace("-", " ").capitalize(),
        dataset_type=source,
        dataset_name=source,
        dataset_config=provenance.get("config"),
        dataset_revision=provenance.get("commit"),
        dataset_split=split,
        metric_type=type,
        metric_name=name,
        metric_value=round(value, 6),
        metric_args=args,
    )
