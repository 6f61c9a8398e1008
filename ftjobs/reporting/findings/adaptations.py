"""Results of adapt stages: loss before and after on held-out text, and the effect of tokens added to the vocabulary."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import mean
from typing import Any, TypedDict

from ftjobs.data.examples.fertility import bits_per_character
from ftjobs.jobfile.fields import Adapt, CorpusSource
from ftjobs.objectives import get_objective
from ftjobs.reporting.finding import OPTIONAL, Finding, Spread, spread
from ftjobs.reporting.findings.strategies import Cost, early_stopping, trained_parameters, training_cost
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Run, Stage


class AdaptationCorpus(TypedDict):
    """Passages of a corpus, as an adapt stage records them in `metrics.json`."""

    unit: str
    isolate: bool
    train: int
    held_out: int
    contaminated: int
    exact_duplicates: int
    near_duplicates: int
    tokens_seen: int


@dataclass(frozen=True, kw_only=True)
class AddedWords(Finding):
    """Words added to a tokenizer. Pairs are before and after."""

    words: int
    tokens: list[int]
    pieces_per_word: list[float]


@dataclass(frozen=True, kw_only=True)
class BitsPerCharacter(Finding):
    """Masked-LM loss per character of held-out text: comparable between vocabularies."""

    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class BeforeAfter(Finding):
    """Metrics before adapting, and after the best epoch over seeds."""

    before: dict[str, float]
    after: dict[str, Spread]


@dataclass(frozen=True, kw_only=True)
class AdaptationSeed(Finding):
    """One adapt stage with one seed."""

    loss: float
    epochs: dict[str, list[float]]
    """Curves by name: `loss`, `train_loss`, and `objective_loss` where the objective has its own."""


@dataclass(frozen=True, kw_only=True)
class AdaptationResult(Finding):
    """One adapt stage over all its seeds, evaluated on held-out text."""

    stage: str
    method: str
    mlm_probability: float
    before: dict[str, float]
    after: dict[str, Spread]
    best_epochs: list[int]
    parameters: dict[str, int] | None = field(default=None, metadata=OPTIONAL)
    epochs_run: list[int] | None = field(default=None, metadata=OPTIONAL)
    epochs_planned: int | None = field(default=None, metadata=OPTIONAL)
    vocabulary: AddedWords | None = field(default=None, metadata=OPTIONAL)
    bits_per_character: BitsPerCharacter | None = field(default=None, metadata=OPTIONAL)
    texts: int
    tokens: int
    evaluated_on: str
    evaluation_texts_also_trained_on: bool
    corpus: AdaptationCorpus | None
    task: BeforeAfter | None
    """Loss and perplexity on the job's held-out texts, for stages that are evaluated on their own corpus."""
    cost: Cost
    seeds: dict[str, AdaptationSeed]


def adaptation_results(evidence: Evidence) -> list[AdaptationResult]:
    """Return one result per adapt stage, in the order of the job file."""
    extended = _extended(evidence)
    return [_result(evidence, stage, extended) for stage in evidence.adaptations]


def _result(evidence: Evidence, stage: Stage, extended: dict[str, Stage]) -> AdaptationResult:
    metrics = stage.runs[0].metrics
    epochs_run, epochs_planned = early_stopping(stage)
    return AdaptationResult(
        stage=stage.name,
        method=_method(stage),
        mlm_probability=stage.settings["mlm_probability"],
        before={key: mean(stage.figures("before", key)) for key in metrics["before"]},
        after={key: spread(stage.figures("best", key)) for key in metrics["before"]},
        best_epochs=stage.best_epochs,
        parameters=trained_parameters(stage),
        epochs_run=epochs_run,
        epochs_planned=epochs_planned,
        vocabulary=_added_words(stage),
        bits_per_character=_bits_before_and_after(evidence, stage, extended),
        texts=metrics["texts"],
        tokens=metrics["tokens"],
        evaluated_on=metrics["evaluated_on"],
        evaluation_texts_also_trained_on=metrics["evaluation_texts_also_trained_on"],
        corpus=metrics.get("corpus"),
        task=_on_task_texts(stage),
        cost=training_cost(stage),
        seeds={str(run.seed): _seed(run) for run in stage.runs},
    )


def _method(stage: Stage) -> str:
    """Return the training method in prose."""
    settings = Adapt.model_validate(stage.settings)
    return get_objective(settings.objective).describe(settings)


def _seed(run: Run) -> AdaptationSeed:
    keys = ["loss", "train_loss", *({"objective_loss"} & run.metrics["best"].keys())]
    curves = {key: [record[key] for record in run.metrics["epochs"]] for key in keys}
    return AdaptationSeed(loss=run.metrics["best"]["loss"], epochs=curves)


def _on_task_texts(stage: Stage) -> BeforeAfter | None:
    if "task_loss" not in stage.runs[0].metrics["before"]:
        return None
    return BeforeAfter(
        before={key: mean(stage.figures("before", f"task_{key}")) for key in ("loss", "perplexity")},
        after={key: spread(stage.figures("best", f"task_{key}")) for key in ("loss", "perplexity")},
    )


def _extended(evidence: Evidence) -> dict[str, Stage]:
    """Return the adapt stages that added words to the tokenizer, by name."""
    return {stage.name: stage for stage in evidence.adaptations if "vocabulary" in stage.runs[0].metrics}


def _added_words(stage: Stage) -> AddedWords | None:
    added: dict[str, Any] | None = stage.runs[0].metrics.get("vocabulary")
    if added is None:
        return None
    return AddedWords(words=added["words"], tokens=added["tokens"], pieces_per_word=added["pieces_per_word"])


def _bits_before_and_after(evidence: Evidence, stage: Stage, extended: dict[str, Stage]) -> BitsPerCharacter | None:
    lengths = _held_out_lengths(evidence, stage, extended) if extended else None
    if lengths is None:
        return None
    before, after = (
        mean(bits_per_character(loss, *lengths) for loss in stage.figures(record, "loss"))
        for record in ("before", "best")
    )
    return BitsPerCharacter(before=before, after=after)


def comparable_bits(evidence: Evidence, stage: Stage, loss: float) -> float | None:
    """Convert a stage's masked-LM loss on held-out text to bits per character.

    None unless a stage of the job added words to a tokenizer and counted the characters of these texts: losses per
    token are comparable otherwise.
    """
    extended = _extended(evidence)
    lengths = _held_out_lengths(evidence, stage, extended) if extended else None
    return None if lengths is None else bits_per_character(loss, *lengths)


def _held_out_lengths(evidence: Evidence, stage: Stage, extended: dict[str, Stage]) -> tuple[int, int] | None:
    """Return tokens and characters of a stage's held-out texts under its tokenizer; None where they are unknown."""
    stages = evidence.report.job["stages"]
    ancestor: str | None = stage.name
    while ancestor is not None and ancestor not in extended:
        ancestor = stages[ancestor].get("encoder")
    if ancestor is not None:
        counted, index = extended[ancestor], 1
    else:  # the stage has the tokenizer of the job's encoder, which the first extending stage counted with as well
        counted, index = (
            next(other for other in extended.values() if not _extends_again(stages, other.name, extended)),
            0,
        )
    if _held_out_texts(stage) != _held_out_texts(counted):
        return None
    held_out = counted.runs[0].metrics["vocabulary"]["held_out"]
    return held_out["pieces"][index], held_out["characters"]


def _extends_again(stages: dict[str, Any], name: str, extended: dict[str, Stage]) -> bool:
    """Return whether an ancestor of the stage added words too."""
    parent = stages[name].get("encoder")
    return parent is not None and (parent in extended or _extends_again(stages, parent, extended))


def _held_out_texts(stage: Stage) -> Any:
    """Return a key for the texts that a stage is evaluated on: the split, and the source of the stage's own corpus."""
    corpus = stage.settings["corpus"]
    source = {} if isinstance(corpus, str) else {key: corpus[key] for key in CorpusSource.model_fields if key in corpus}
    return stage.runs[0].metrics["evaluated_on"], source
