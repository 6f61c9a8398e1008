"""A trained classifier from where it lies: a model folder, an artifact's address, or a prefix in object storage."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs import artifacts
from ftjobs.artifacts.manifest import KEY
from ftjobs.cards import ModelInfo
from ftjobs.cards.model_info import NAME
from ftjobs.data.downloads import download
from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.errors import UserError
from ftjobs.models import checkpoints, heads
from ftjobs.system.device import training_device
from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task
from ftjobs.training import evaluation
from ftjobs.training.speedups import last_layer

_ARTIFACT = re.compile(rf"(.*/)?{KEY}(/manifest\.json|/attempts(/[^/]+)?)?/?")
_LONGEST = 512


@dataclass(frozen=True)
class Classifier:
    """A model with its tokenizer, on the device of this process, and what it takes and gives."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    classes: list[str]
    max_length: int
    text_columns: list[str] | None
    """Columns that held the texts in training; None if the checkpoint does not say."""
    label_columns: list[str] | None
    """Those that held the labels: one, or one for each label."""
    label_type: str = DEFAULT_LABEL_TYPE
    label_separator: str = ","

    @classmethod
    def load(cls, address: str, work: Path) -> Classifier:
        """The classifier at an address; what is not on this machine is copied into `work`.

        Raises:
            UserError: nothing lies there, or no classifier.
            CorruptArtifact: what is stored differs from its manifest.
        """
        folder = _fetched(address, work)
        config, tokenizer = checkpoints.load_config(folder), checkpoints.load_tokenizer(folder)
        classes = checkpoints.class_names(config)
        label_type = heads.label_type_of(config) or DEFAULT_LABEL_TYPE
        model, new = heads.load_classifier(folder, classes, label_type)
        if new:
            raise UserError(
                f"{address}: is no trained classifier, it has no weights for {heads.new_modules(new)}; give a model "
                "that a stage of kind `classify` published"
            )
        last_layer.keep_first_token(model)
        facts = ModelInfo.read(folder) if (folder / NAME).is_file() else None
        return cls(
            model=model.to(training_device()).eval(),
            tokenizer=tokenizer,
            classes=classes,
            max_length=checkpoints.max_input_length(model, tokenizer, facts.max_length if facts else _LONGEST),
            text_columns=facts.text_columns if facts else None,
            label_type=label_type,
            label_columns=_label_columns(facts),
            label_separator=(facts and facts.label_separator) or ",",
        )

    @property
    def task(self) -> Task:
        """The task that the model was trained for."""
        return get_task(self.label_type)

    def outputs(self, texts: list[str], pairs: list[str] | None = None) -> tuple[np.ndarray, int]:
        """Logits, or numbers, in fp32: float32 (N, C), and how many of the N texts were cut to `max_length`."""
        tokens = tokenize(self.tokenizer, texts, pairs, self.max_length)
        unknown = np.zeros(len(texts), dtype=np.int64)
        examples = LabeledExamples(tokens, unknown, self.tokenizer.pad_token_id)
        return evaluation.logits(self.model, examples), tokens.truncated


def _label_columns(facts: ModelInfo | None) -> list[str] | None:
    if facts is None or (facts.label_columns is None and facts.label_column is None):
        return None
    return facts.label_columns or [str(facts.label_column)]


def _fetched(address: str, work: Path) -> Path:
    if os.path.isfile(os.path.join(address, "config.json")):
        return Path(address)
    if _ARTIFACT.fullmatch(address):
        storage, manifest = artifacts.resolve_uri(address)
        artifacts.pull(storage, manifest, work / "model")
        return work / "model"
    return Path(download(address, "MODEL", work))
