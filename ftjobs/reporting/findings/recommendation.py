"""The answer that the report opens with: does adapting pay, and which model to ship."""

from __future__ import annotations

from statistics import mean
from typing import Any

from ftjobs import statistics
from ftjobs.artifacts import Manifest
from ftjobs.jobfile.fields import Hypothesis
from ftjobs.reporting.findings import adaptations, hypotheses
from ftjobs.reporting.findings.classifiers import SEED
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Run, Stage, Strategy

#: Fields that say how a stage is run, not what comes of it.
_NO_DIFFERENCE = {"encoder", "data"}


def does_adapting_pay(evidence: Evidence, tested: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry per comparison that asks it: an adapted strategy against its twin on the encoder as it came.

    Training on an intermediate task counts as adapting; an entry for which it is all there was has `intermediate`.

    Twins train the same part (head only, or everything). Of several, the one with the fewest other settings is taken,
    then the one that is most accurate on the split that epochs were chosen on. Where the job has the hypothesis
    `adapted > plain`, its entry of `tested` is the answer; else the comparison is made here, without a margin, and the
    entry says that it was not `stated` beforehand.
    """
    stated = {(one["better"], one["worse"]): one for one in tested}
    pairs = [(one, twin) for one in evidence.strategies if (twin := _twin(evidence, one))]
    missing = [pair for pair in pairs if (pair[0].name, pair[1].name) not in stated]
    made = hypotheses.compared(evidence, [Hypothesis(better=one.name, worse=twin.name) for one, twin in missing])
    entries = {(one["better"], one["worse"]): {**one, "stated": False} for one in made}
    entries |= {pair: {**one, "stated": True} for pair, one in stated.items()}
    return [
        {
            **entries[one.name, twin.name],
            "also_differ_in": _differences(one, twin),
            "frozen": _frozen(one),
            **({} if evidence.is_adapted(one.name, to_texts=True) else {"intermediate": True}),
        }
        for one, twin in pairs
    ]


def to_ship(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """Which checkpoint to ship, and how sure that is.

    The stage with the highest mean accuracy over seeds on the split that best epochs were chosen on, and of its seeds
    the one with the highest; where stages are level, the one that is simplest to train, then the job's order. The test
    split decides only where a job has no other, and then the entry's `chosen_on` says so. `level_with` names the
    strategies that the test rows cannot tell from it: the 95 % interval of the difference holds zero.

    A job without classifiers ships the encoder with the lowest loss on held-out text, and one in which every stage has
    data of its own the first of these.
    """
    if evidence.adaptations and not evidence.strategies:
        return _encoder_to_ship(evidence, published)
    if not evidence.strategies:
        return _own_to_ship(evidence, published)
    ranked = sorted(evidence.strategies, key=lambda one: (one.rank, _effort(evidence, one)))
    chosen = ranked[0]
    key, sign = chosen.measure.key, -1 if chosen.measure.minimize else 1
    position = max(range(len(chosen.runs)), key=lambda index: sign * chosen.selection[index])
    run = chosen.runs[position]
    level = [one for other in ranked[1:] if (one := _level(chosen, other)) is not None]
    simplest = min([chosen, *(evidence.strategy(one["stage"]) for one in level)], key=lambda x: _effort(evidence, x))
    return {
        "kind": "classifier",
        "stage": chosen.name,
        "seed": run.seed,
        key: run.metrics[key],
        "interval": _interval(chosen, position),
        "chosen_on": chosen.selected_on,
        f"selection_{key}": {"stage": mean(chosen.selection), "seed": chosen.selection[position]},
        "level_with": level,
        "simplest_of_these": simplest.name,
        "artifact": published[f"{chosen.name}/seed-{run.seed}"].key,
    }


def _interval(chosen: Strategy, position: int) -> list[float]:
    """Of one seed's accuracy, or mean squared error."""
    found = chosen.task.interval(chosen.predictions[[position]], chosen.labels, seed=SEED)
    return [found.low, found.high]


def _encoder_to_ship(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """That of the lowest loss on the job's held-out texts, not on corpora, which differ; of encoders with different
    vocabularies, that of the fewest bits per character."""
    found = [(stage, run, _of_task(run, "loss")) for stage in evidence.adaptations for run in stage.runs]
    bits = [adaptations.bits_of(evidence, stage, run.metrics["best"]["loss"]) for stage, run, _ in found]
    comparable = [loss if one is None else one for one, (*_, loss) in zip(bits, found, strict=True)]
    chosen = min(range(len(found)), key=lambda index: (bits[index] is None, comparable[index]))
    stage, run, _ = found[chosen]
    return {
        "kind": "encoder",
        "stage": stage.name,
        "seed": run.seed,
        "chosen_on": evidence.selected_on if "task_loss" in run.metrics["best"] else run.metrics["evaluated_on"],
        "loss": _of_task(run, "loss"),
        "perplexity": _of_task(run, "perplexity"),
        **({} if bits[chosen] is None else {"bits_per_character": bits[chosen]}),
        "artifact": published[f"{stage.name}/seed-{run.seed}"].key,
    }


def _of_task(run: Run, figure: str) -> float:
    found: dict[str, float] = run.metrics["best"]
    return found.get(f"task_{figure}", found[figure])


def _own_to_ship(evidence: Evidence, published: dict[str, Manifest]) -> dict[str, Any]:
    """The first stage: with data of their own, which differ, there is nothing to choose by."""
    stage = evidence.intermediate[0]
    measure = stage.task.measure
    sign = -1 if measure.minimize else 1
    run = max(stage.runs, key=lambda run: sign * run.best[run.metrics["selected_on"]][measure.key])
    return {
        "kind": "classifier of its own data",
        "stage": stage.name,
        "seed": run.seed,
        measure.key: run.metrics[measure.key],
        "label_type": stage.task.name,
        "chosen_on": run.metrics["selected_on"],
        "artifact": published[f"{stage.name}/seed-{run.seed}"].key,
    }


def _level(chosen: Strategy, other: Strategy) -> dict[str, Any] | None:
    """The difference between two strategies, if the test rows cannot tell them apart."""
    found = statistics.compare(chosen.scores, other.scores, seed=SEED, graded=chosen.measure.graded)
    if not found.interval.low <= 0 <= found.interval.high:
        return None
    return {
        "stage": other.name,
        "difference": found.difference,
        "interval": [found.interval.low, found.interval.high],
    }


def _effort(evidence: Evidence, one: Strategy) -> tuple[int, int]:
    """How much there is to train: stages that it builds on, then a head alone, part of the encoder, or all of it."""
    in_part = bool(one.settings.get("lora")) or one.settings.get("unfreeze", "all") != "all"
    return len(evidence.lineage(one.name)), 0 if _frozen(one) else 1 if in_part else 2


def _frozen(one: Stage) -> bool:
    return bool(one.settings["freeze_encoder"])


def _twin(evidence: Evidence, one: Strategy) -> Strategy | None:
    """The strategy without adaptation that is most like an adapted one."""
    if not evidence.is_adapted(one.name):
        return None
    plain = [
        other for other in evidence.strategies if not evidence.is_adapted(other.name) and _frozen(other) == _frozen(one)
    ]
    return min(plain, key=lambda other: (len(_differences(one, other)), other.rank), default=None)


def _differences(one: Stage, other: Stage) -> list[str]:
    """Fields, other than the encoder, and options in which two stages are not the same."""
    keys = (one.settings.keys() | other.settings.keys()) - _NO_DIFFERENCE
    fields = sorted(key for key in keys if one.settings.get(key) != other.settings.get(key))
    return fields + (["--num-processes"] if one.processes != other.processes else [])
