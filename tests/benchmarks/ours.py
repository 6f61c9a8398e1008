"""Run a stage of ftjobs as the runner does, on local folders, and time its parts. See `measurement`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ftjobs.jobfile.fields import Adapt, Classify
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.stages import adapt, classify
from ftjobs.system import device
from ftjobs.training import features
from ftjobs.training.callbacks import Callback, StepEnd, TrainingContext
from tests.benchmarks.measurement import Measured, Spec, report, spec_from_command_line


class Watch:
    """Seconds spent in each call of functions."""

    def __init__(self) -> None:
        self._calls: list[tuple[str, float, float]] = []

    def seconds(self, name: str) -> list[float]:
        """Return the seconds of each call with a name."""
        return [seconds for called, seconds, _ in self._calls if called == name]

    def before(self, moment: float) -> float:
        """Return the sum of all calls before a time (`time.time`)."""
        return sum(seconds for _, seconds, ended in self._calls if ended <= moment)

    def around(self, name: Callable[..., str], function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function: its calls are timed under the name that `name` returns for their arguments."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self._calls.append((name(*args, **kwargs), time.perf_counter() - started, time.time()))

        return timed


class Stamps(Callback):
    """Start and end of training epochs; the loop waits for the device before it evaluates."""

    first = 0.0
    steps = 0
    epochs: ClassVar[list[float]] = []
    began = 0.0

    def around(self, train: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap `train` and time it."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            objective = args[3]
            evaluate = objective.evaluate

            def stamp() -> Any:
                Stamps.epochs.append(time.perf_counter() - Stamps.began)
                metrics = evaluate()
                Stamps.began = time.perf_counter()
                return metrics

            objective.evaluate = stamp
            Stamps.first, Stamps.began = time.time(), time.perf_counter()
            return train(*args, **kwargs)

        return timed

    def on_step_end(self, event: StepEnd) -> None:
        Stamps.steps = event.step


def run(spec: Spec) -> Measured:
    """Run the stage and print its measurements."""
    watch, stamps = Watch(), Stamps()
    stage = adapt if spec.kind == "adapt" else classify
    settings = Adapt(**spec.settings) if spec.kind == "adapt" else Classify(**spec.settings)
    stage.train = stamps.around(stage.train)
    classify.predict_logits = watch.around(lambda *_: "evaluation", classify.predict_logits)
    MaskedLMObjective.measure = watch.around(lambda *_: "evaluation", MaskedLMObjective.measure)  # type: ignore[method-assign]
    features.compute = watch.around(lambda model, examples, title, *_: title, features.compute)
    output = Path(spec.output)
    output.mkdir(parents=True)
    inputs = {"prepare": Path(spec.data), "encoder": Path(spec.encoder)}
    metrics = stage.run(settings, spec.seed, inputs, output, TrainingContext(callbacks=(stamps,)))
    timing = json.loads((output / "timing.json").read_text())
    evaluations = watch.seconds("evaluation")
    passes, passes_once = 1, len(evaluations) - len(stamps.epochs)
    if features_of_test := watch.seconds("features of test"):  # then an epoch ends in an evaluation of a head on them
        evaluations, passes, passes_once = features_of_test, 0, 1 + passes_once
    return Measured(
        start=stamps.first - spec.started - watch.before(stamps.first),
        once=sum(watch.seconds("features of train")),
        epochs=stamps.epochs,
        steps=stamps.steps // len(stamps.epochs),
        evaluation=statistics.median(evaluations),
        passes=passes,
        passes_once=passes_once,
        memory=device.peak_memory()[0],
        accuracy=metrics.get("accuracy"),
        notes={"precision": timing["mixed_precision"]},
    )


if __name__ == "__main__":
    report(run(spec_from_command_line()))
