"""`label_type: class`: one of several classes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from ftjobs.errors import UserError
from ftjobs.tasks.base import Criterion, LossSettings, Task
from ftjobs.tasks.cells import CategoryCell, CellType, first_names
from ftjobs.tasks.measures import Measure, percent
from ftjobs.tasks.wording import Evaluation, HubMetric, Metric

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    import torch

# ASCII digits only, and no more than Python converts back to a number.
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,1000}")


class WeightedCrossEntropy(Criterion):
    """The loss of `torch.nn.CrossEntropyLoss` with class weights and label smoothing, as a sum and its denominator."""

    def __init__(self, weights: torch.Tensor | None = None, smoothing: float = 0.0) -> None:
        """Set weights and smoothing.

        Args:
            weights: float32 (C,); all 1 unless given
            smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016, section 7)
        """
        self.weights, self.smoothing = weights, smoothing

    def loss_from_logits(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        weights = None if self.weights is None else self.weights.to(logits.device)
        return functional.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=self.smoothing)

    def num_items(self, batch: Any) -> float:
        import torch

        if self.weights is None:
            return len(batch.labels)
        return float(self.weights[batch.labels].sum(dtype=torch.float64))

    @property
    def class_weights(self) -> list[float] | None:
        return None if self.weights is None else self.weights.tolist()


class Classification(Task):
    """Single-label classification: softmax over C classes, cross-entropy."""

    name = "class"
    description = "one of several classes."
    problem_type = "single_label_classification"
    owns_problem_type = True
    metrics = (
        Metric("accuracy", "accuracy", hub=HubMetric("accuracy", "Accuracy")),
        Metric("f1", "F1"),
        Metric("loss", "cross-entropy", minimize=True, is_share=False),
    )
    measure = Measure("accuracy", "accuracy", others=(("f1", "F1, %"),))
    single_class = True
    min_classes = 2
    settings = frozenset({"class_weights", "label_smoothing"})

    def compute_metrics(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
        """Return accuracy, F1 and mean cross-entropy, unweighted and unsmoothed.

        F1 is that of class 1 for two classes (as in scikit-learn and evaluate), otherwise the unweighted mean over
        classes.
        """
        import numpy as np
        from sklearn.metrics import accuracy_score, f1_score

        predictions = logits.argmax(axis=1)
        average = "binary" if logits.shape[1] == 2 else "macro"
        return {
            "accuracy": float(accuracy_score(labels, predictions)),
            "f1": float(f1_score(labels, predictions, average=average, zero_division=0.0)),
            "loss": float(-_log_softmax(logits)[np.arange(len(labels)), labels].mean()),
        }

    def cell_type(self, several: bool) -> CellType:
        return CategoryCell()

    def label_names(self, columns: Iterable[Iterable[Any]], column: str) -> list[str]:
        """Return the names of the classes, in the order of their indices.

        Numerical order if every name is a whole number ("9" before "10"), otherwise by code point. Booleans are "false"
        and "true". Splits other than training may add classes.
        """
        training, *others = ({_class_name(value) for value in values} for values in columns)
        if len(training) < 2:
            present = f"only the class {min(training)!r}" if training else "no labels"
            raise UserError(
                f"data.label: the training split has {present}; a classifier needs two classes or more: "
                "check data.label, and data.split if the source has more classes"
            )
        names = training.union(*others)
        if all(_WHOLE_NUMBER.fullmatch(name) for name in names):
            return sorted(names, key=lambda name: (int(name), name))
        return sorted(names)

    def encode(self, columns: Sequence[Sequence[Any]], names: Sequence[str], where: str = "data.label") -> np.ndarray:
        """Return class indices: int64 (N,)."""
        import numpy as np

        index = {name: position for position, name in enumerate(names)}
        try:
            return np.fromiter((index[_class_name(value)] for value in columns[0]), dtype=np.int64)
        except KeyError as unknown:
            raise UserError(
                f"{where}: {unknown.args[0]!r} is not among the {len(names)} classes ({first_names(names)}); "
                "correct the label, or train with rows of that class"
            ) from None

    def encode_column(self, decoded: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
        """Return class indices: int32 (N,); faster than `encode`, for files with predictions of many seeds."""
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        indices = pc.index_in(decoded, value_set=pa.array(names, pa.string()))
        return np.asarray(indices.to_numpy(), dtype=np.int32)

    def decode(self, encoded: np.ndarray, names: Sequence[str]) -> pa.Array:
        import numpy as np
        import pyarrow as pa

        return pa.array(np.array(names, dtype=object)[encoded], pa.string())

    def decoded_type(self) -> pa.DataType:
        import pyarrow as pa

        return pa.string()

    def summarize(self, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
        """Return the number of rows of each class."""
        import numpy as np

        return dict(zip(names, np.bincount(labels, minlength=len(names)).tolist(), strict=True))

    def criterion(self, settings: LossSettings, names: Sequence[str], labels: np.ndarray) -> WeightedCrossEntropy:
        weights = class_weights(settings.class_weights, names, labels)
        return WeightedCrossEntropy(weights, settings.label_smoothing)

    def predict(self, logits: np.ndarray) -> np.ndarray:
        """Return the class with the highest logit: int64 (N,)."""
        indices: np.ndarray = logits.argmax(axis=1)
        return indices

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Return the softmax."""
        import numpy as np

        return np.asarray(np.exp(_log_softmax(logits)))

    def describe_outputs(self, number: int) -> str:
        return f"{number:,} {'class' if number == 1 else 'classes'}"

    def metrics_note(self, names: Sequence[str]) -> str:
        return f"F1 of class {names[1]}." if len(names) == 2 else "F1 is the mean over classes."

    def card_purpose(self, inputs: str, names: Sequence[str], list_names: Callable[[Sequence[str]], str]) -> str:
        return f"classifier of {inputs} into {len(names)} classes ({list_names(names)})"

    def card_metrics(self, names: Sequence[str]) -> list[Metric]:
        title, average = "F1, mean over classes", "macro"
        if len(names) == 2:
            title, average = f"F1 of {names[1]}", "binary"
        f1 = replace(self.metric("f1"), title=title, hub=HubMetric("f1", f"F1 ({average})", {"average": average}))
        return [f1 if metric.key == "f1" else metric for metric in self.metrics]

    def card_limitations(self, evaluation: Evaluation, quote: Callable[[str], str]) -> Iterator[str]:
        import numpy as np

        test, train = evaluation.labels["test"], evaluation.labels["train"]
        majority = max(test, key=lambda name: test[name])
        share = test[majority] / sum(test.values())
        constant = f"always predicting {quote(majority)} has an accuracy of {percent(share)} % on the test rows"
        if evaluation.interval.low <= share:
            yield f"Not better than a constant prediction: {constant}, which is not below the interval of this model."
        else:
            yield f"For comparison: {constant}."
        predicted = np.unique(evaluation.predictions)
        if len(predicted) == 1:
            yield f"The model predicts {quote(evaluation.names[predicted[0]])} for every test row."
        untrained = [quote(name) for name, count in train.items() if not count]
        if untrained:
            yield f"No training row has the class{'es' if len(untrained) > 1 else ''} {', '.join(untrained)}."


def class_weights(
    setting: Literal["balanced"] | dict[str, float] | None, classes: Sequence[str], labels: np.ndarray
) -> torch.Tensor | None:
    """Return the weight of each class: float32 (C,), or None without a setting.

    `balanced` is scikit-learn's examples / (classes * examples of the class), after King and Zeng 2001, "Logistic
    regression in rare events data".

    Args:
        setting: `class_weights` of the job file
        classes: names of the C classes
        labels: int (N,), of the training split

    Raises:
        UserError: an unknown class has a weight, or a class without training examples is to be balanced.
    """
    import numpy as np
    import torch

    if setting is None:
        return None
    if setting == "balanced":
        counts = np.bincount(labels, minlength=len(classes))
        if not counts.all():
            raise UserError(
                f"class_weights: balanced needs training rows of every class, and there is none of "
                f"`{classes[int(counts.argmin())]}`; give the weights by name"
            )
        return torch.from_numpy(len(labels) / (len(classes) * counts)).float()
    unknown = sorted(set(setting) - set(classes))
    if unknown:
        raise UserError(f"class_weights: there is no class `{unknown[0]}`; the classes are: {', '.join(classes)}")
    return torch.tensor([setting.get(name, 1.0) for name in classes], dtype=torch.float32)


def _class_name(value: object) -> str:
    """Return a cell as the name of a class: booleans, also those of NumPy, as "false" and "true"."""
    text = str(value)
    return text.lower() if type(value).__name__ in ("bool", "bool_") else text


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    """Return log-probabilities in float64: (N, C)."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


TASK = Classification()
