"""The interface of a loaded objective: an encoder with its heads, its examples, loss, evaluation and checkpoint."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.masked_examples import MaskedExamples, Unit
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Replace
from ftjobs.models import document_masking, heads
from ftjobs.training.objective import Examples, TrainingObjective


class TextExamples(Examples, Protocol):
    """Examples built from texts."""

    @property
    def texts(self) -> int:
        """Number of texts in the examples."""

    @property
    def tokens(self) -> Tokens:
        """Tokens of the texts."""


class PretrainingObjective(TrainingObjective):
    """An objective of an `adapt` stage, with the model that it trains."""

    title = "adapt"

    def __init__(
        self, settings: Adapt, model: nn.Module, new: list[str], encoder: PreTrainedModel | None = None
    ) -> None:
        """
        Args:
            settings: of the stage.
            model: all trained modules.
            new: names of the model's parameters that the checkpoint does not contain.
            encoder: the part of the model that is published; the model itself unless given.
        """
        self.settings, self.model, self.new = settings, model, new
        self.encoder: PreTrainedModel = encoder or model
        #: Held-out examples by the prefix of their metrics. The examples with an empty prefix select the best epoch.
        self.held_out: Mapping[str, TextExamples] = {}

    @abstractmethod
    def build_examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str],
        max_length: int,
        seed: int,
        unit: Unit = "document",
    ) -> TextExamples:
        """Build examples from texts.

        Args:
            tokenizer: of the encoder.
            texts: N texts.
            max_length: maximum tokens per example.
            seed: of masks, pairs and draws.
            unit: unit of text in one example; ignored if the objective has an `example_unit`.

        Raises:
            UserError: the texts do not support this objective.
        """

    @abstractmethod
    def measure(self, examples: Any) -> dict[str, float]:
        """Return metrics on examples: `loss`, `perplexity` and `accuracy` of masked tokens, the objective's figures,
        and for several losses `objective_loss`, the sum that training minimizes."""

    def evaluate(self) -> dict[str, float]:
        """Return metrics on all held-out examples, with the prefixes of `held_out`."""
        return {
            f"{prefix}{name}": value
            for prefix, examples in self.held_out.items()
            for name, value in self.measure(examples).items()
        }

    def score(self, metrics: dict[str, Any]) -> float:
        """Return the negative loss that training minimizes."""
        return -float(metrics.get("objective_loss", metrics["loss"]))

    def example_metrics(self, examples: Any) -> dict[str, int]:
        """Return counts of training examples for the metrics of the stage."""
        return {}

    def check_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Check that a tokenizer supports this objective.

        Raises:
            UserError: it has no mask token.
        """
        if tokenizer.mask_token_id is None:
            raise UserError(
                f"objective: {self.settings.objective} needs a mask token, and the encoder's tokenizer has none; "
                "choose another encoder"
            )

    def enable_document_masking(self) -> None:
        """Restrict attention to single documents within packed examples.

        Raises:
            UserError: the encoder's family does not support it.
        """
        parts = [self.model] if self.model is self.encoder else self.model.children()
        for part in parts:
            if isinstance(part, PreTrainedModel):
                document_masking.enable(part)

    @property
    def new_in_encoder(self) -> list[str]:
        """The parameters among `new` that belong to the published encoder, by their names there."""
        if self.model is self.encoder:
            return self.new
        part = next(name for name, module in self.model.named_children() if module is self.encoder)
        return [name.removeprefix(f"{part}.") for name in self.new if name.startswith(f"{part}.")]

    def save(self, tokenizer: PreTrainedTokenizerBase, folder: Path, extra_weights: dict[str, torch.Tensor]) -> None:
        """Write the checkpoint of the published encoder, with further weights of its input checkpoint."""
        heads.save(self.encoder, tokenizer, folder, extra_weights)

    def _masked(
        self, tokenizer: PreTrainedTokenizerBase, tokens: Tokens, seed: int, replace: Replace | None = None
    ) -> MaskedExamples:
        """Add the masking settings of the stage to tokens."""
        return MaskedExamples(
            tokens=tokens,
            seed=seed,
            probability=self.settings.mlm_probability,
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            masking=self.settings.masking,
            replace=replace or self.settings.replace,
        )

    @property
    def _needs_word_starts(self) -> bool:
        return self.settings.masking != "token"


class MaskedTokenMetrics:
    """Accumulate loss, perplexity and accuracy of masked tokens over batches."""

    def __init__(self) -> None:
        self.loss, self.correct, self.tokens = 0.0, 0, 0

    def add(self, logits: torch.Tensor, batch: Batch) -> None:
        """Add a batch with M masked tokens. `logits`: (M', V), of which the first M rows count."""
        logits = logits[: len(batch.labels)]
        self.loss += float(nn.functional.cross_entropy(logits.float(), batch.labels, reduction="sum"))
        self.correct += int((logits.argmax(-1) == batch.labels).sum())
        self.tokens += len(batch.labels)

    def metrics(self) -> dict[str, float]:
        """Return mean cross-entropy per masked token, its exponential, and the share predicted correctly."""
        mean = self.loss / max(self.tokens, 1)
        return {
            "loss": mean,
            "perplexity": math.exp(min(mean, 700.0)),
            "accuracy": self.correct / max(self.tokens, 1),
        }
