"""The metadata of a model card: YAML that the Hugging Face hub reads."""

from __future__ import annotations

import math

from huggingface_hub import EvalResult, ModelCardData

from ftjobs.cards.context import CardContext
from ftjobs.objectives import all_figures
from ftjobs.tasks.base import HubMetric


def card_data(context: CardContext) -> ModelCardData:
    """Return the metadata, with test metrics in `model-index`."""
    results = _results(context)
    hub_data = context.data["provenance"].get("hub_id")
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=_hub_task(context) if context.objective is None or context.predicts_masked_tokens else None,
        base_model=context.base_model,
        datasets=[hub_data] if hub_data else None,
        metrics=list(dict.fromkeys(result.metric_type for result in results)) or None,
        tags=["ftjobs", *(["domain-adaptation"] if context.run.kind == "adapt" else [])],
        model_name=context.name,
        eval_results=results or None,
        license=context.base.get("license"),
        license_name=context.base.get("license_name"),
        license_link=context.base.get("license_link"),
    )


def _hub_task(context: CardContext) -> str | None:
    """Return the task of a trained model on the hub."""
    return {"adapt": "fill-mask", "classify": context.task.hub_task}.get(context.run.kind)


def _results(context: CardContext) -> list[EvalResult]:
    """Return every finite metric."""
    if context.run.kind == "adapt":
        metrics = context.metrics["best"]
        split = context.metrics["evaluated_on"] if context.corpus is None else "held-out"
        entries = [(HubMetric("perplexity", "Perplexity of masked tokens"), "perplexity")]
        entries = entries if context.predicts_masked_tokens else []
        for key, name in all_figures().items():
            if key in metrics:
                entries.append((HubMetric(key.rpartition("_")[2], name[0].upper() + name[1:]), key))
    elif context.run.kind == "classify":
        metrics, split = context.metrics, "test"
        entries = [
            (metric.hub, metric.key) for metric in context.task.card_metrics(context.names) if metric.hub is not None
        ]
    else:
        return []
    return [_result(context, split, hub, metrics[key]) for hub, key in entries if math.isfinite(metrics[key])]


def _result(context: CardContext, split: str, metric: HubMetric, value: float) -> EvalResult:
    provenance, source = context.data["provenance"], context.source
    if context.corpus is not None:
        provenance = context.corpus["provenance"][0]
        source = provenance.get("hub_id") or provenance["name"]
    task = _hub_task(context)
    assert task is not None, "only trained models have metrics"
    return EvalResult(
        task_type=task,
        task_name=task.replace("-", " ").capitalize(),
        dataset_type=source,
        dataset_name=source,
        dataset_config=provenance.get("config"),
        dataset_revision=provenance.get("commit"),
        dataset_split=split,
        metric_type=metric.type,
        metric_name=metric.name,
        metric_value=round(value, 6),
        metric_args=metric.arguments,
    )
