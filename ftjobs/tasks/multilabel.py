"""`label_type: multi`: any number of several labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ftjobs.errors import UserError
from ftjobs.tasks.base import ConstantAnswer, Criterion, LossSettings, Task
from ftjobs.tasks.cells import CellType, FlagCell, NamesCell, first_names
from ftjobs.tasks.measures import Measure
from ftjobs.tasks.wording import Evaluation, HubMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch


class BinaryCrossEntropy(Criterion):
    """Binary cross-entropy, the mean over labels."""

    def loss_from_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        total = functional.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
        return total.div(logits.shape[1])


class MultiLabel(Task):
    """Multi-label classification by binary relevance: one sigmoid for each of C labels."""

    name = "multi"
    description = (
        "any number of several labels at once, each learned by binary cross-entropy and predicted from a probability "
        'of 0.5 on (binary relevance: Tsoumakas and Katakis 2007, "Multi-label classification: an overview", section '
        "3.1); `label` is then a list of columns that hold 0 or 1, named after the labels, or one column with the "
        "names of a row's labels, as a list or joined by `label_separator`."
    )
    problem_type = "multi_label_classification"
    owns_problem_type = True
    metrics = (
        Metric(
            "accuracy", "accuracy", title="accuracy, every label right", hub=HubMetric("accuracy", "Subset accuracy")
        ),
        Metric("f1", "F1", title="F1, micro", hub=HubMetric("f1", "F1 (micro)", {"average": "micro"})),
        Metric("f1_macro", "macro F1", title="F1, macro", hub=HubMetric("f1", "F1 (macro)", {"average": "macro"})),
        Metric("loss", "cross-entropy", minimize=True, is_share=False),
    )
    measure = Measure("accuracy", "accuracy", others=(("f1", "F1 micro, %"), ("f1_macro", "F1 macro, %")))
    label_sets = True
    pipeline_arguments: ClassVar = {"top_k": None}
    several_columns = True
    has_separator = True

    def compute_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return subset accuracy (every label of a row right), micro F1, macro F1 and mean binary cross-entropy."""
        import numpy as np
        from sklearn.metrics import f1_score

        predictions = self.predict(logits)
        wide = logits.astype(np.float64)
        entropy = np.maximum(wide, 0) - wide * labels + np.log1p(np.exp(-np.abs(wide)))
        return {
            "accuracy": float(self.right(predictions, labels).mean()),
            "f1": float(f1_score(labels, predictions, average="micro", zero_division=0.0)),
            "f1_macro": float(f1_score(labels, predictions, average="macro", zero_division=0.0)),
            "loss": float(entropy.mean()),
        }

    def cell_type(self, several: bool) -> CellType:
        return FlagCell() if several else NamesCell()

    def label_names(self, columns: Iterable[Iterable[Any]], column: str) -> list[str]:
        """Return the names of the labels in all splits, by code point."""
        training, *others = ({name for names in rows for name in names} for rows in columns)
        if len(training) < 2:
            present = f"only the label {min(training)!r}" if training else "no label in any row"
            raise UserError(
                f"data.label: the training split has {present}; label_type: {self.name} needs two labels or more: "
                "check data.label and data.label_separator"
            )
        return sorted(training.union(*others))

    def encode(self, columns: Sequence[Sequence[Any]], names: Sequence[str], where: str = "data.label") -> np.ndarray:
        """Return the labels of each row: uint8 (N, C), 1 for a label that the row has."""
        import numpy as np

        if len(columns) > 1:
            return np.stack([np.asarray(column, dtype=np.uint8) for column in columns], axis=1)
        index = {name: position for position, name in enumerate(names)}
        flags = np.zeros((len(columns[0]), len(names)), dtype=np.uint8)
        try:
            for row, labels in enumerate(columns[0]):
                flags[row, [index[name] for name in labels]] = 1
        except KeyError as unknown:
            raise UserError(
                f"{where}: {unknown.args[0]!r} is not among the {len(names)} labels ({first_names(names)}); correct "
                "it, or train with rows that have it"
            ) from None
        return flags

    def decode(self, encoded: np.ndarray, names: Sequence[str]) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        rows, labels = np.nonzero(encoded)
        offsets = np.searchsorted(rows, np.arange(len(encoded) + 1)).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.array(names, dtype=object)[labels], pa.string()))

    def decoded_type(self) -> pa.DataType:
        import pyarrow as pa

        return pa.list_(pa.string())

    def summarize(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """Return the number of rows with each label."""
        import numpy as np

        return dict(zip(names, labels.sum(axis=0, dtype=np.int64).tolist(), strict=True))

    def criterion(self, settings: LossSettings, names: Sequence[str], labels: np.ndarray) -> Criterion:
        return BinaryCrossEntropy()

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return the labels with a probability of at least 0.5: uint8 (N, C)."""
        import numpy as np

        return (logits >= 0).astype(np.uint8)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the sigmoid."""
        import numpy as np
        from scipy.special import expit

        return np.asarray(expit(logits.astype(np.float64)))

    def right(self, predictions: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Return whether every label of a row is right."""
        matches: np.ndarray = (predictions == labels).all(axis=-1)
        return matches

    def constant_answer(self, labels: np.ndarray, names: Sequence[str]) -> ConstantAnswer:
        """Return the label set that most training rows have."""
        import numpy as np

        sets, counts = np.unique(labels, axis=0, return_counts=True)
        most_frequent = sets[counts.argmax()]
        predicted = [name for name, flag in zip(names, most_frequent, strict=True) if flag]
        return ConstantAnswer(most_frequent[None], "most frequent labels", predicted)

    def describe_outputs(self, number: int) -> str:
        return f"{number} labels, any number of them at once"

    def short_outputs(self, number: int) -> str:
        return f"{number:,} {'label' if number == 1 else 'labels'} at once"

    def metrics_note(self, names: Sequence[str]) -> str:
        return (
            "Accuracy is the share of rows with every label right; strategies are compared by it. F1 micro counts all "
            "labels of all rows together, F1 macro is the mean over labels; a label is predicted from a probability of "
            "0.5 on."
        )

    def card_purpose(self, inputs: str, names: Sequence[str], list_names: Callable[[Sequence[str]], str]) -> str:
        return f"classifier of {inputs} that predicts any number of {len(names)} labels ({list_names(names)})"

    def card_limitations(self, evaluation: Evaluation, quote: Callable[[str], str]) -> Iterator[str]:
        untrained = [quote(name) for name, count in evaluation.labels["train"].items() if not count]
        if untrained:
            yield f"No training row has the label{'s' if len(untrained) > 1 else ''} {', '.join(untrained)}."
        first = evaluation.predictions[0]
        if (evaluation.predictions == first).all():
            predicted = [quote(name) for name, flag in zip(evaluation.names, first, strict=True) if flag]
            yield f"The model predicts the same labels for every test row: {', '.join(predicted) or 'none'}."


TASK = MultiLabel()
