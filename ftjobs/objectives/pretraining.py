"""The objectives of an `adapt` stage: what each loads, makes of texts, minimizes, measures and publishes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data.examples import segment_pairs
from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.documents import tokenize_documents
from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples, Unit, build_masked_examples
from ftjobs.data.examples.segment_pairs import PairExamples
from ftjobs.data.examples.tokenization import Tokens
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Replace
from ftjobs.models import document_masking, heads, pretraining_heads
from ftjobs.objectives.mlm import MaskedLM
from ftjobs.objectives.replaced_tokens import DrawnExamples, ReplacedTokenModel, ReplacedTokens
from ftjobs.objectives.sentence_pairs import SentencePairs
from ftjobs.system.progress import LOG
from ftjobs.training import evaluation
from ftjobs.training.stepping import Items

TextExamples = MaskedExamples | PackedExamples | PairExamples | DrawnExamples
_RELATIONS: dict[str, segment_pairs.Relation] = {"mlm+nsp": "next", "mlm+sop": "order"}
_MASKS_ONLY = Replace(mask=1.0, random=0.0, keep=0.0)


@dataclass(frozen=True)
class Pretraining:
    """An encoder with its heads, and what they are trained by."""

    model: nn.Module
    """All that is trained."""
    encoder: PreTrainedModel
    """The part that is published as the checkpoint."""
    new: list[str]
    """Names of parameters that the checkpoint did not hold."""
    loss: Callable[[nn.Module, Batch], torch.Tensor]
    """Summed losses of a batch."""
    items: Callable[[Batch], Items]
    """What they are the means over."""
    evaluate: Callable[[Any], dict[str, float]]
    """Metrics on held-out examples: `loss`, `perplexity` and `accuracy` of masked tokens, figures of its own, and where
    there are such `objective_loss`, the sum that training minimizes."""
    save: Callable[[PreTrainedTokenizerBase, Path, dict[str, torch.Tensor]], None]
    """Write the checkpoint: tokenizer, folder, weights beyond the encoder's."""

    @property
    def new_in_encoder(self) -> list[str]:
        """Those of `new` that are the encoder's or its head's, under their names there."""
        if self.model is self.encoder:
            return self.new
        part = next(name for name, module in self.model.named_children() if module is self.encoder)
        return [name.removeprefix(f"{part}.") for name in self.new if name.startswith(f"{part}.")]

    @staticmethod
    def score(metrics: dict[str, float]) -> float:
        """Higher is better."""
        return -metrics.get("objective_loss", metrics["loss"])


def load(settings: Adapt, folder: Path) -> Pretraining:
    """An encoder with the heads that the objective trains; new ones where the checkpoint has none.

    Raises:
        UserError: the family of the encoder cannot be trained so.
    """
    if settings.objective == "replaced-token":
        return _replaced_tokens(folder, settings.generator_size)
    if settings.objective == "mlm":
        model, new = heads.load_masked_lm(folder)
        masked = MaskedLM(model)
        evaluate = partial(evaluation.masked_lm, model, masked)
        return Pretraining(model, model, new, masked.loss, _labels, evaluate, partial(heads.save, model))
    model, new = pretraining_heads.load_sentence_pairs(folder, _RELATIONS[settings.objective])
    both = SentencePairs(model)
    evaluate = partial(evaluation.sentence_pairs, model, both, name=settings.objective.removeprefix("mlm+"))
    return Pretraining(model, model, new, both.loss, both.items, evaluate, partial(heads.save, model))


def examples(
    settings: Adapt,
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    longest: int,
    seed: int,
    unit: Unit = "document",
) -> TextExamples:
    """What the objective makes of texts, each of which is a document to objectives on pairs of segments.

    Args:
        settings: of the stage.
        tokenizer: of the encoder.
        texts: N texts.
        longest: most tokens of an example.
        seed: of masks, pairs and draws.
        unit: what of the texts an example is; not for objectives on pairs.

    Raises:
        UserError: the texts have nothing that the objective needs.
    """
    words = settings.masking != "token"
    if settings.objective in _RELATIONS:
        return _pairs(settings, tokenizer, texts, longest, seed)
    masked = build_masked_examples(
        texts, unit, tokenizer, longest, partial(_masked, settings, tokenizer, seed=seed), words
    )
    return DrawnExamples(masked) if settings.objective == "replaced-token" else masked


def isolate(trainee: Pretraining) -> None:
    """Let documents that are packed into one example see only themselves.

    Raises:
        UserError: it cannot be done right with this encoder.
    """
    parts = [trainee.model] if trainee.model is trainee.encoder else trainee.model.children()
    for part in parts:
        if isinstance(part, PreTrainedModel):
            document_masking.isolate(part)


def _labels(batch: Batch) -> float:
    return len(batch.labels)


def _masked(settings: Adapt, tokenizer: PreTrainedTokenizerBase, tokens: Tokens, seed: int) -> MaskedExamples:
    return MaskedExamples(
        tokens=tokens,
        seed=seed,
        probability=settings.mlm_probability,
        mask_token_id=tokenizer.mask_token_id,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        masking=settings.masking,
        replace=_MASKS_ONLY if settings.objective == "replaced-token" else settings.replace,
    )


def _pairs(
    settings: Adapt, tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], longest: int, seed: int
) -> PairExamples:
    template = segment_pairs.pair_template(tokenizer)
    room = longest - template.size
    documents = tokenize_documents(tokenizer, texts, max(room // 2, 1), with_word_starts=settings.masking != "token")
    runs, siblings = segment_pairs.divide_into_runs(documents, room, seed)
    several = int((documents.sentences > 1).sum())
    needs = f"objective: {settings.objective} needs texts of two sentences or more"
    if not several:
        raise UserError(
            f"{needs}, and each of the {len(documents):,} is a single one, which has no next; "
            "give documents, or write objective: mlm"
        )
    if settings.objective == "mlm+nsp" and several == 1:
        raise UserError(
            f"{needs}, two of them at least, and only one of {len(documents):,} is such; write objective: mlm"
        )
    if several < len(documents):
        LOG.info("%d of %d texts are a single sentence and are left out", len(documents) - several, len(documents))
    return PairExamples(
        documents=documents,
        runs=runs,
        siblings=siblings,
        relation=_RELATIONS[settings.objective],
        room=room,
        template=template,
        masks=_masked(settings, tokenizer, documents.tokens, seed),
    )


def _replaced_tokens(folder: Path, size: float) -> Pretraining:
    discriminator, generator, new = pretraining_heads.load_replaced_token(folder, size)
    model, objective = ReplacedTokenModel(discriminator, generator), ReplacedTokens()
    return Pretraining(
        model=model,
        encoder=discriminator,
        new=new,
        loss=objective.loss,
        items=objective.items,
        evaluate=partial(evaluation.replaced_tokens, model),
        save=partial(pretraining_heads.save_replaced_token, discriminator, generator),
    )
