"""The interface of a task. NumPy, pyarrow and torch are imported by the methods that compute, never by the module."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from ftjobs.tasks.wording import Metric, Wording

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch
    from torch import nn

    from ftjobs.statistics import Interval
    from ftjobs.tasks.cells import CellType


class Batch(Protocol):
    """One forward pass of B examples."""

    @property
    def inputs(self) -> dict[str, torch.Tensor]:
        """Keyword arguments of the model."""

    @property
    def labels(self) -> torch.Tensor:
        """Encoded labels: (B,) or (B, C)."""


class LossSettings(Protocol):
    """Fields of a `classify` stage that change the training loss."""

    @property
    def class_weights(self) -> Literal["balanced"] | dict[str, float] | None:
        """Weight of each class."""

    @property
    def label_smoothing(self) -> float:
        """Share of the target that is spread over all classes."""


class Criterion(ABC):
    """Training loss of a task."""

    @abstractmethod
    def loss_from_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the loss, summed over the examples: scalar.

        Args:
            logits: (B, C)
            labels: encoded labels, (B,) or (B, C)
        """

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Run the model on a batch and return the loss, summed over its B examples: scalar."""
        return self.loss_from_logits(model(**batch.inputs).logits, batch.labels)

    def num_items(self, batch: Batch) -> float:
        """Return the loss denominator: the number of examples, or the sum of their weights."""
        return len(batch.labels)

    @property
    def class_weights(self) -> list[float] | None:
        """Weight of each of the C classes, where classes are weighted."""
        return None


@dataclass(frozen=True)
class ConstantAnswer:
    """The best constant prediction known from training."""

    prediction: np.ndarray
    """Encoded prediction of a single row."""
    kind: str
    """Description, such as `mean of the training labels`."""
    names: list[str] | None = None
    """The labels that are predicted, where labels are names."""


class Task(Wording, ABC):
    """Everything that depends on `label_type`.

    Labels and predictions are *encoded* as arrays, one row per example: class indices int64 (N,), numbers float64
    (N,), or label sets uint8 (N, C). Files hold them *decoded*: class names, numbers, or lists of names.
    """

    name: ClassVar[str]
    """Value of `label_type`."""
    description: ClassVar[str]
    """Documentation of that value in the job-file schema."""
    problem_type: ClassVar[str]
    """`problem_type` of the transformers configuration."""
    owns_problem_type: ClassVar[bool] = False
    """Checkpoints with this problem type and no `label_type` in their configuration belong to this task."""
    settings: ClassVar[frozenset[str]] = frozenset()
    """Fields of a `classify` stage that apply to this task only (`class_weights`, `label_smoothing`)."""
    min_classes: ClassVar[int] = 0
    """Smallest number of distinct values in a training split's label column."""
    several_columns: ClassVar[bool] = False
    """`label` may list one column per label."""
    has_separator: ClassVar[bool] = False
    """A single label column may hold several names, joined by `label_separator`."""
    has_probabilities: ClassVar[bool] = True
    """`predictions.parquet` has the column `probabilities`."""
    single_class: ClassVar[bool] = False
    """Encoded labels are class indices: reports show confusion matrices, calibration and class balance."""
    label_sets: ClassVar[bool] = False
    """Encoded labels are label sets: reports show precision, recall and F1 of each label."""
    numeric: ClassVar[bool] = False
    """Encoded labels are numbers: reports show the rows with the largest errors."""
    # Metrics

    @property
    def default_metric(self) -> Metric:
        """Metric that selects epochs unless the stage names another."""
        return self.metrics[0]

    def metric(self, key: str) -> Metric:
        """Return a metric by its key."""
        return next(metric for metric in self.metrics if metric.key == key)

    def score(self, metrics: dict[str, float], key: str) -> float:
        """Return one of the metrics with the sign that makes higher better."""
        return -metrics[key] if self.metric(key).minimize else metrics[key]

    @abstractmethod
    def compute_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return every metric by key.

        Args:
            logits: float (N, C)
            labels: encoded labels of the N rows
        """

    # Labels

    @abstractmethod
    def cell_type(self, several: bool) -> CellType:
        """Return the reader of the cells of a label column; `several`: there is one column per label."""

    @abstractmethod
    def label_names(self, columns: Iterable[Iterable[Any]], column: str) -> list[str]:
        """Return the names of the C outputs: classes, labels, or the label column itself.

        Args:
            columns: decoded labels of each split, training first; consumed once
            column: name of the label column

        Raises:
            UserError: the training split has nothing to learn.
        """

    @abstractmethod
    def encode(self, columns: Sequence[Sequence[Any]], names: Sequence[str], where: str = "data.label") -> np.ndarray:
        """Encode the cells of one label column, or of several.

        Args:
            columns: cells by column, as `cell_type` reads them
            names: from `label_names`
            where: place of the labels, for errors

        Raises:
            UserError: a label is not among `names`.
        """

    def encode_column(self, decoded: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
        """Encode a column of `predictions.parquet`."""
        return self.encode([decoded.to_pylist()], names)

    @abstractmethod
    def decode(self, encoded: np.ndarray, names: Sequence[str]) -> pa.Array:
        """Return encoded labels or predictions as a column for `predictions.parquet`."""

    @abstractmethod
    def decoded_type(self) -> pa.DataType:
        """Return the Arrow type of decoded labels."""

    @abstractmethod
    def summarize(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """Return the label distribution of a split, for `data.json`."""

    # Training

    @abstractmethod
    def criterion(self, settings: LossSettings, names: Sequence[str], labels: np.ndarray) -> Criterion:
        """Return the training loss.

        Args:
            settings: of the stage
            names: from `label_names`
            labels: encoded labels of the training split

        Raises:
            UserError: the settings do not fit the labels.
        """

    # Predictions

    @abstractmethod
    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return encoded predictions for logits (N, C)."""

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return probabilities for logits (N, C): float64 (N, C), or (N, 0) for a task without probabilities."""
        import numpy as np

        return np.zeros((len(logits), 0))

    # Evaluation

    def right(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return whether predictions equal the labels: bool (S, N) for S seeds, or (N,)."""
        matches: np.ndarray = predictions == labels
        return matches

    def scores(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the score of each row by which strategies are compared, higher is better: (S, N) or (N,).

        The mean over rows is the default metric, with the sign that makes higher better.
        """
        return self.right(predictions, labels)

    def interval(self, predictions: np.ndarray, labels: np.ndarray, seed: int = 0) -> Interval:
        """Return the 95 % interval of the default metric over S seeds and N rows.

        Args:
            predictions: encoded predictions (S, N) or (S, N, C)
            labels: encoded labels (N,) or (N, C)
            seed: of the random draws
        """
        from ftjobs.statistics import mean_interval, proportion_interval

        right = self.right(predictions, labels)
        if len(right) > 1:
            return mean_interval(right, seed=seed)
        return proportion_interval(int(right[0].sum()), len(right[0]))

    def constant_answer(self, labels: np.ndarray, names: Sequence[str]) -> ConstantAnswer | None:
        """Return the constant prediction that reports compare with; None to compare with the majority class.

        Args:
            labels: encoded labels of the training split
            names: from `label_names`
        """
        return None
