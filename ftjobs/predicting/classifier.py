"""Load a trained classifier from a model folder, an artifact or a prefix in object storage."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs import artifacts
from ftjobs.artifacts.manifest import KEY
from ftjobs.cards import MODEL_INFO, ModelInfo
from ftjobs.data.downloads import download
from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.errors import UserError
from ftjobs.models import checkpoints, heads
from ftjobs.system.device import training_device
from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task
from ftjobs.training.objective import predict_logits
from ftjobs.training.speedups import last_layer

_ARTIFACT = re.compile(rf"(.*/)?{KEY}(/manifest\.json|/attempts(/[^/]+)?)?/?")
#: Maximum input length in tokens of models without `ftjobs.json`.
_DEFAULT_MAX_LENGTH = 512


@dataclass(frozen=True)
class Classifier:
    """A model on the device of this process, its tokenizer, and the properties of its inputs and outputs."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    classes: list[str]
    """Names of the C outputs."""
    max_length: int
    text_columns: list[str] | None
    """Text columns of the training data; None without `ftjobs.json`."""
    label_columns: list[str] | None
    """Label columns of the training data: one, or one per label; None without `ftjobs.json`."""
    label_type: str = DEFAULT_LABEL_TYPE
    label_separator: str = ","

    @classmethod
    def load(cls, address: str, work: Path) -> Classifier:
        """Load the classifier at an address.

        Args:
            address: a model folder, the URI of an artifact, or `s3://bucket/prefix`.
            work: folder for files that are not on this machine.

        Raises:
            UserError: the address contains no trained classifier.
            CorruptArtifact: a stored file differs from its manifest.
        """
        folder = _fetch(address, work)
        config, tokenizer = checkpoints.load_config(folder), checkpoints.load_tokenizer(folder)
        classes = checkpoints.class_names(config)
        label_type = heads.label_type_of(config) or DEFAULT_LABEL_TYPE
        model, new = heads.load_classifier(folder, classes, label_type)
        if new:
            raise UserError(
                f"{address}: not a trained classifier (no weights for {heads.new_modules(new)}); give a model that a "
                "stage of kind `classify` published"
            )
        last_layer.keep_first_token(model)
        info = ModelInfo.read(folder) if (folder / MODEL_INFO).is_file() else None
        return cls(
            model=model.to(training_device()).eval(),
            tokenizer=tokenizer,
            classes=classes,
            max_length=checkpoints.max_input_length(model, tokenizer, info.max_length if info else _DEFAULT_MAX_LENGTH),
            text_columns=info.text_columns if info else None,
            label_type=label_type,
            label_columns=_label_columns(info),
            label_separator=(info and info.label_separator) or ",",
        )

    @property
    def task(self) -> Task:
        """The task that the model was trained for."""
        return get_task(self.label_type)

    def outputs(self, texts: list[str], pairs: list[str] | None = None) -> tuple[np.ndarray, int]:
        """Run the model on N texts or pairs of texts.

        Returns:
            Logits, float32 (N, C), and the number of inputs that were truncated to `max_length`.
        """
        tokens = tokenize(self.tokenizer, texts, pairs, self.max_length)
        unknown = np.zeros(len(texts), dtype=np.int64)
        examples = LabeledExamples(tokens, unknown, self.tokenizer.pad_token_id)
        return predict_logits(self.model, examples), tokens.truncated


def _label_columns(info: ModelInfo | None) -> list[str] | None:
    if info is None or (info.label_columns is None and info.label_column is None):
        return None
    return info.label_columns or [str(info.label_column)]


def _fetch(address: str, work: Path) -> Path:
    if os.path.isfile(os.path.join(address, "config.json")):
        return Path(address)
    if _ARTIFACT.fullmatch(address):
        storage, manifest = artifacts.resolve_uri(address)
        artifacts.pull(storage, manifest, work / "model")
        return work / "model"
    return Path(download(address, "MODEL", work))
