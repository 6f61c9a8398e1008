"""Writing a card and its facts into a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from ftjobs.cards import text
from ftjobs.cards.facts import ModelInfo
from ftjobs.cards.made import CardContext
from ftjobs.cards.metadata import card_data
from ftjobs.jobfile.fields import Adapt, Classify
from ftjobs.models.checkpoints import CARD
from ftjobs.plan import StageRun


def _separator(made: CardContext) -> str | None:
    joined = made.label_type == "multi" and isinstance(made.labelled.label, str)
    return made.labelled.label_separator if joined else None


def write(
    run: StageRun, inputs: dict[str, Path], output: Path, metrics: dict[str, Any], environment: dict[str, str]
) -> None:
    """Write `README.md`, and of what was trained `ftjobs.json`, beside the weights that a stage has left in `output`.

    An encoder that `prepare` brought in with a card keeps that one.

    Args:
        run: the stage that has run.
        inputs: folders of the artifacts it read, by role.
        output: the folder it filled.
        metrics: what it returned.
        environment: versions of what its result may depend on.
    """
    made = CardContext.of(run, inputs, output, metrics, environment)
    if isinstance(run.settings, Adapt | Classify):
        ModelInfo(
            pipeline=run.pipeline,
            stage=run.stage,
            kind=run.settings.kind,
            seed=run.seed,
            identity=run.identity,
            text_columns=made.data["text_columns"],
            label_column=made.labelled.label if isinstance(made.labelled.label, str) else None,
            label_columns=made.labelled.label if isinstance(made.labelled.label, list) else None,
            label_separator=_separator(made),
            classes=made.classes if run.kind == "classify" else [],
            max_length=metrics["max_length"],
        ).write(made.model)
    if not (made.model / CARD).exists():
        ModelCard(f"---\n{card_data(made).to_yaml()}\n---\n\n{text.body(made)}").save(made.model / CARD)
