"""Wording of a task in reports, model cards and the Hugging Face hub, and the metrics that they show."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from ftjobs.statistics import Interval
    from ftjobs.tasks.measures import Measure


class HubMetric(NamedTuple):
    """A metric in the metadata of a model card."""

    type: str
    """Identifier on the Hugging Face hub."""
    name: str
    arguments: dict[str, Any] | None = None


@dataclass(frozen=True)
class Metric:
    """A metric that `metric_for_best` may name."""

    key: str
    """Name in job files and `metrics.json`."""
    name: str
    """Name in prose."""
    minimize: bool = False
    """Lower is better."""
    is_share: bool = True
    """A share of 1, displayed in per cent."""
    title: str | None = None
    """Row title in model cards, if it differs from `name`."""
    hub: HubMetric | None = None
    """Entry in the metadata of model cards."""


@dataclass(frozen=True)
class Evaluation:
    """Labels and test predictions of a published model, for its card."""

    names: Sequence[str]
    """Names of the outputs."""
    labels: dict[str, dict[str, Any]]
    """Label distribution of each split, from `Task.summarize`."""
    predictions: np.ndarray
    """Encoded predictions of the N test rows."""
    interval: Interval
    """95 % interval of the default metric."""


class Wording(ABC):
    """The part of a task that is text. `ftjobs.tasks.base.Task` inherits it."""

    metrics: ClassVar[tuple[Metric, ...]]
    """Metrics in `metrics.json`. The first selects epochs unless the stage names another, and compares strategies."""
    measure: ClassVar[Measure]
    """Display of the default metric in reports and cards."""
    loss_name: ClassVar[str] = "cross-entropy"
    """The training loss in prose."""
    interval_method: ClassVar[str] = "Wilson's interval of a proportion"
    """Method of `interval` in model cards."""
    hub_task: ClassVar[str] = "text-classification"
    """Task on the Hugging Face hub, and name of the transformers pipeline."""
    pipeline_arguments: ClassVar[dict[str, Any]] = {}
    """Arguments of the pipeline that return every prediction of the task."""

    @abstractmethod
    def describe_outputs(self, number: int) -> str:
        """Return the outputs of a model with their number: `3 classes`."""

    def short_outputs(self, number: int) -> str:
        """Return the same for a cell of a table."""
        return self.describe_outputs(number)

    def describe_summary(self, summary: dict[str, Any]) -> str:
        """Return a label distribution in a few words, for a log."""
        return ", ".join(f"{count} x {name}" for name, count in summary.items()) or "no labels"

    @abstractmethod
    def metrics_note(self, names: Sequence[str]) -> str:
        """Return the sentences of a report that define the metrics.

        Args:
            names: from `label_names`, quoted
        """

    @abstractmethod
    def card_purpose(self, inputs: str, names: Sequence[str], list_names: Callable[[Sequence[str]], str]) -> str:
        """Return the noun phrase that describes a model in its card.

        Args:
            inputs: the texts, such as "pairs of texts (`question`, `answer`)"
            names: names of the outputs
            list_names: formats names from the data as Markdown
        """

    def card_metrics(self, names: Sequence[str]) -> list[Metric]:
        """Return the metrics of a model card.

        Args:
            names: names of the outputs, formatted as Markdown
        """
        return list(self.metrics)

    def card_label_rows(
        self, labels: dict[str, dict[str, Any]], names: Sequence[str], quote: Callable[[str], str]
    ) -> list[list[str]]:
        """Return the rows of the table of labels in a card: a title, then a cell for each split.

        Args:
            labels: label distribution of each split
            names: names of the outputs
            quote: formats a name from the data as Markdown
        """
        return [[quote(name), *(f"{counts[name]:,}" for counts in labels.values())] for name in names]

    @abstractmethod
    def card_limitations(self, evaluation: Evaluation, quote: Callable[[str], str]) -> Iterator[str]:
        """Yield sentences on limitations that follow from labels and predictions.

        Args:
            evaluation: of the published model
            quote: formats a name from the data as Markdown
        """
