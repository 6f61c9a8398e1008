"""Metadata of a published model: the YAML header of its card, for the Hugging Face hub, and `ftjobs.json`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

from huggingface_hub import EvalResult, ModelCardData
from pydantic import Field, ValidationError

from ftjobs.cards.context import CardContext
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Fields
from ftjobs.objectives import all_figures
from ftjobs.tasks.wording import HubMetric


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


MODEL_INFO = "ftjobs.json"
"""File with the properties of a trained model that the transformers configuration does not hold."""


class ModelInfo(Fields):
    """The stage that trained a model, and the model's inputs and outputs."""

    version: Literal[1] = 1
    pipeline: str
    stage: str
    kind: Literal["adapt", "classify"]
    seed: int
    identity: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    text_columns: Annotated[list[str], Field(min_length=1, max_length=2)]
    """Text columns of the training data, in the order of the model's input."""
    label_column: str | None
    """The label column; None with several columns, or for an encoder adapted without labels."""
    classes: list[str]
    """Names of the outputs in order: classes, labels, or the label column; empty for an encoder adapted without
    labels."""
    max_length: Annotated[int, Field(ge=1)]
    """Longest input in tokens; longer training inputs were truncated."""
    label_columns: list[str] | None = None
    """The label columns, if there are several."""
    label_separator: str | None = None
    """Separator of the names in a label column of text."""

    def write(self, folder: Path) -> None:
        """Write `ftjobs.json` into a model folder."""
        unused = {name for name in ("label_columns", "label_separator") if getattr(self, name) is None}
        (folder / MODEL_INFO).write_text(self.model_dump_json(indent=1, exclude=unused) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> ModelInfo:
        """Read `ftjobs.json` of a model folder.

        Raises:
            UserError: the file is missing or invalid.
        """
        path = folder / MODEL_INFO
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise UserError(
                f"{folder}: {MODEL_INFO} is missing; give a model that a stage of kind `classify` or `adapt` published"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the whole file"
            raise UserError(f"{path}: invalid ({field}: {first['msg']}); fetch the model again") from error
