"""Adapt stages: loss before and after on held-out text, and the effect of tokens added to the vocabulary."""

from __future__ import annotations

from statistics import mean
from typing import Any

from ftjobs.data.examples.fertility import bits_per_character
from ftjobs.jobfile.fields import Adapt, CorpusSource
from ftjobs.objectives import get_objective
from ftjobs.reporting.findings.classifiers import cost, early_stopping, spread, trained_parameters
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Run, Stage


def adaptation(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per adapt stage: loss, perplexity and share of tokens guessed right on held-out text, and what its
    objective measures besides."""
    of_vocabularies = vocabulary_effects(evidence)
    return [
        {
            "stage": one.name,
            "method": _method(one),
            "mlm_probability": one.settings["mlm_probability"],
            "before": {key: mean(one.figures("before", key)) for key in one.runs[0].metrics["before"]},
            "after": {key: spread(one.figures("best", key)) for key in one.runs[0].metrics["before"]},
            "best_epochs": one.figures("best_epoch"),
            **trained_parameters(one),
            **early_stopping(one),
            **of_vocabularies.get(one.name, {}),
            "texts": one.runs[0].metrics["texts"],
            "tokens": one.runs[0].metrics["tokens"],
            "evaluated_on": one.runs[0].metrics["evaluated_on"],
            "evaluation_texts_also_trained_on": one.runs[0].metrics["evaluation_texts_also_trained_on"],
            "corpus": one.runs[0].metrics.get("corpus"),
            "task": _on_the_task(one),
            "cost": cost(one),
            "seeds": {
                str(run.seed): {
                    "loss": run.metrics["best"]["loss"],
                    **_curves(run, "loss", "train_loss", *({"objective_loss"} & run.metrics["best"].keys())),
                }
                for run in one.runs
            },
        }
        for one in evidence.adaptations
    ]


def _method(stage: Stage) -> str:
    """Return the training method of an adapt stage in prose."""
    settings = Adapt.model_validate(stage.settings)
    return get_objective(settings.objective).describe(settings)


def _on_the_task(stage: Stage) -> dict[str, Any] | None:
    """Loss and perplexity on the job's held-out texts, of stages that are measured on a corpus of their own."""
    if "task_loss" not in stage.runs[0].metrics["before"]:
        return None
    return {
        "before": {key: mean(stage.figures("before", f"task_{key}")) for key in ("loss", "perplexity")},
        "after": {key: spread(stage.figures("best", f"task_{key}")) for key in ("loss", "perplexity")},
    }


def _curves(run: Run, *keys: str) -> dict[str, Any]:
    """Per epoch; of an adaptation, the epoch before the first is the encoder as it came."""
    return {"epochs": {key: [record[key] for record in run.metrics["epochs"]] for key in keys}}


def vocabulary_effects(evidence: Evidence) -> dict[str, dict[str, Any]]:
    """By adapt stage: `vocabulary`, where it added words, and `bits_per_character` before and after adapting.

    Empty where no stage added words. Bits are only given for held-out texts that were measured: those of the stages
    that added words.
    """
    extended = {one.name: one for one in evidence.adaptations if "vocabulary" in one.runs[0].metrics}
    found: dict[str, dict[str, Any]] = {}
    for one in evidence.adaptations if extended else []:
        found[one.name] = {}
        if one.name in extended:
            added = one.runs[0].metrics["vocabulary"]
            found[one.name]["vocabulary"] = {key: added[key] for key in ("words", "tokens", "pieces_per_word")}
        lengths = _held_out(evidence, one, extended)
        if lengths is not None:
            found[one.name]["bits_per_character"] = {
                when: mean(bits_per_character(loss, *lengths) for loss in one.figures(name, "loss"))
                for when, name in (("before", "before"), ("after", "best"))
            }
    return found


def bits_of(evidence: Evidence, stage: Stage, loss: float) -> float | None:
    """Bits per character of a loss that a stage was measured at; None where no stage of the job added words."""
    extended = {one.name: one for one in evidence.adaptations if "vocabulary" in one.runs[0].metrics}
    lengths = _held_out(evidence, stage, extended) if extended else None
    return None if lengths is None else bits_per_character(loss, *lengths)


def _held_out(evidence: Evidence, stage: Stage, extended: dict[str, Stage]) -> tuple[int, int] | None:
    """Pieces and characters of the texts that a stage was measured on; None where nobody counted them."""
    jobs = evidence.report.job["stages"]
    above: str | None = stage.name
    while above is not None and above not in extended:
        above = jobs[above].get("encoder")
    if above is not None:
        counted, index = extended[above], 1
    else:  # its vocabulary is that of the job's encoder, as those of the first that added words were before
        counted, index = next(one for one in extended.values() if not _extended_above(jobs, one.name, extended)), 0
    if _texts(stage) != _texts(counted):
        return None
    held_out = counted.runs[0].metrics["vocabulary"]["held_out"]
    return held_out["pieces"][index], held_out["characters"]


def _extended_above(jobs: dict[str, Any], name: str, extended: dict[str, Stage]) -> bool:
    above = jobs[name].get("encoder")
    return above is not None and (above in extended or _extended_above(jobs, above, extended))


def _texts(stage: Stage) -> Any:
    """What says on which texts a stage was measured: the split, and of a corpus of its own what brings its passages."""
    own = stage.settings["corpus"]
    brought = {} if isinstance(own, str) else {key: own[key] for key in CorpusSource.model_fields if key in own}
    return stage.runs[0].metrics["evaluated_on"], brought
