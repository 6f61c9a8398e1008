"""`label_type: float`: a finite number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ftjobs.errors import UserError
from ftjobs.tasks.base import ConstantAnswer, Criterion, LossSettings, Task
from ftjobs.tasks.cells import CellType, NumberCell
from ftjobs.tasks.measures import ErrorMeasure
from ftjobs.tasks.wording import Evaluation, HubMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

    from ftjobs.statistics import Interval


class SquaredErrorLoss(Criterion):
    """Squared error."""

    def loss_from_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        return functional.mse_loss(logits[:, 0].float(), labels.float(), reduction="sum")


class Regression(Task):
    """Regression: one output, squared error."""

    name = "float"
    description = "a finite number, learned by regression with mean squared error."
    problem_type = "regression"
    owns_problem_type = True
    metrics = (
        Metric("mse", "mean squared error", minimize=True, is_share=False, hub=HubMetric("mse", "Mean squared error")),
        Metric("pearson", "Pearson correlation", is_share=False, hub=HubMetric("pearsonr", "Pearson correlation")),
        Metric("spearman", "Spearman correlation", is_share=False, hub=HubMetric("spearmanr", "Spearman correlation")),
        Metric("loss", "loss", minimize=True, is_share=False),
    )
    measure = ErrorMeasure("mse", "mean squared error", others=(("pearson", "Pearson"), ("spearman", "Spearman")))
    has_probabilities = False
    numeric = True
    loss_name = "squared error"
    interval_method = "a bootstrap over test rows"

    def compute_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return the mean squared error, and the correlations of Pearson and Spearman.

        Correlations are 0 if all predictions or all labels are equal, or predictions are not finite.
        """
        predictions = self.predict(logits)
        error = float(((predictions - labels) ** 2).mean())
        return {
            "mse": error,
            "pearson": _correlation("pearsonr", predictions, labels),
            "spearman": _correlation("spearmanr", predictions, labels),
            "loss": error,
        }

    def cell_type(self, several: bool) -> CellType:
        return NumberCell()

    def label_names(self, columns: Iterable[Iterable[Any]], column: str) -> list[str]:
        """Return the name of the label column."""
        import numpy as np

        training = np.fromiter(next(iter(columns)), dtype=np.float64)
        if len(training) and np.ptp(training) == 0:
            raise UserError(
                f"data.label: column {column!r} is {training[0]:g} in all {len(training)} training rows, so there is "
                "nothing to learn; check data.label and the data"
            )
        return [column]

    def encode(self, columns: Sequence[Sequence[Any]], names: Sequence[str], where: str = "data.label") -> np.ndarray:
        """Return the numbers: float64 (N,)."""
        import numpy as np

        return np.array(columns[0], dtype=np.float64)

    def encode_column(self, decoded: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
        import numpy as np

        return np.asarray(decoded.to_numpy(), dtype=np.float64)

    def decode(self, encoded: np.ndarray, names: Sequence[str]) -> pa.Array:
        import pyarrow as pa

        return pa.array(encoded)

    def decoded_type(self) -> pa.DataType:
        import pyarrow as pa

        return pa.float64()

    def summarize(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """Return mean, standard deviation, minimum, median and maximum."""
        import numpy as np

        low, median, high = np.percentile(labels, [0, 50, 100]).tolist()
        return {"mean": float(labels.mean()), "sd": float(labels.std()), "min": low, "median": median, "max": high}

    def describe_summary(self, summary: dict[str, Any]) -> str:
        if not summary:
            return super().describe_summary(summary)
        return (
            f"labels from {summary['min']:g} to {summary['max']:g}, mean {summary['mean']:.4g}, "
            f"s.d. {summary['sd']:.4g}"
        )

    def criterion(self, settings: LossSettings, names: Sequence[str], labels: np.ndarray) -> Criterion:
        return SquaredErrorLoss()

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return the output: float64 (N,)."""
        import numpy as np

        return logits.reshape(-1).astype(np.float64)

    def scores(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return the negative squared errors."""
        errors: np.ndarray = (predictions - labels) ** 2
        return -errors

    def interval(self, predictions: np.ndarray, labels: np.ndarray, seed: int = 0) -> Interval:
        from ftjobs.statistics import Interval, score_interval

        drawn = score_interval((predictions - labels) ** 2, seed=seed)
        return Interval(max(drawn.low, 0.0), drawn.high)

    def constant_answer(self, labels: np.ndarray, names: Sequence[str]) -> ConstantAnswer:
        return ConstantAnswer(labels.mean(keepdims=True), "mean of the training labels")

    def describe_outputs(self, number: int) -> str:
        return "labels that are numbers"

    def short_outputs(self, number: int) -> str:
        return "numbers"

    def metrics_note(self, names: Sequence[str]) -> str:
        return (
            "The lower the mean squared error the better; strategies are compared by it. Pearson's correlation is of "
            "the values, Spearman's of their ranks; both are 0 if all predictions are equal."
        )

    def card_purpose(self, inputs: str, names: Sequence[str], list_names: Callable[[Sequence[str]], str]) -> str:
        return f"regression model that predicts a number, {list_names(names)}, from {inputs}"

    def card_metrics(self, names: Sequence[str]) -> list[Metric]:
        return [metric for metric in self.metrics if metric.key != "loss"]  # the loss is the mean squared error

    def card_label_rows(
        self, labels: dict[str, dict[str, Any]], names: Sequence[str], quote: Callable[[str], str]
    ) -> list[list[str]]:
        moments = ("min", "median", "max", "mean", "sd")
        return [[f"{name} label", *(f"{split[name]:.4g}" for split in labels.values())] for name in moments]

    def card_limitations(self, evaluation: Evaluation, quote: Callable[[str], str]) -> Iterator[str]:
        test, train = evaluation.labels["test"], evaluation.labels["train"]
        error = test["sd"] ** 2 + (test["mean"] - train["mean"]) ** 2
        constant = f"always predicting the mean of the training labels has a mean squared error of {error:.4g}"
        if evaluation.interval.high >= error:
            yield f"Not better than a constant prediction: {constant}, which is not above the interval of this model."
        else:
            yield f"For comparison: {constant} on the test rows."
        yield (
            f"Training labels range from {train['min']:g} to {train['max']:g}; predictions are not limited to this "
            "range."
        )


def _correlation(name: str, predictions: np.ndarray, labels: np.ndarray) -> float:
    import numpy as np
    from scipy import stats

    is_constant = len(labels) < 2 or not np.isfinite(predictions).all() or np.ptp(predictions) == 0
    if is_constant or np.ptp(labels) == 0:
        return 0.0
    with warnings.catch_warnings():  # scipy warns if the values are nearly equal
        warnings.simplefilter("ignore")
        coefficient = float(getattr(stats, name)(predictions, labels).statistic)
    return coefficient if np.isfinite(coefficient) else 0.0


TASK = Regression()
