"""Masked language modeling with next-sentence or sentence-order prediction."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForNextSentencePrediction, PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data.examples import segment_pairs
from ftjobs.data.examples.batching import Batch
from ftjobs.data.examples.documents import Documents, tokenize_documents
from ftjobs.data.examples.masked_examples import Unit
from ftjobs.data.examples.segment_pairs import PairExamples, Relation
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints, heads
from ftjobs.objectives.compute.mlm import masked_cross_entropy, pad_positions
from ftjobs.objectives.compute.pretraining import MaskedTokenMetrics, PretrainingObjective
from ftjobs.system.progress import LOG
from ftjobs.training.objective import evaluation_batches
from ftjobs.training.speedups import last_layer

if TYPE_CHECKING:
    from ftjobs.objectives.sentence_pairs import SegmentPairs


class SegmentPairObjective(PretrainingObjective):
    """The mean loss of masked tokens plus the mean loss of segment pairs, as in the pretraining of BERT and ALBERT.

    From the encoder's last hidden state, the masked-LM head needs the M masked positions and the pooler the first token
    of each of the B texts. If the family supports it, the last layer computes no other positions.
    """

    def __init__(self, settings: Adapt, model: Any, new: list[str], declaration: SegmentPairs) -> None:
        """
        Args:
            settings: of the stage.
            model: a transformers model whose outputs begin with masked-LM logits and logits of pairs.
            new: names of parameters that the checkpoint does not contain.
            declaration: `mlm+nsp` or `mlm+sop`.
        """
        super().__init__(settings, model, new)
        self.declaration = declaration
        self._positions: torch.Tensor | None = None
        self._texts = 0
        encoder = model.base_model
        if last_layer.keep_positions(model, self._select):
            encoder.pooler.register_forward_pre_hook(self._first_tokens)
            encoder.register_forward_hook(self._drop_first_tokens)
        else:
            encoder.register_forward_hook(self._reduce_output)

    @classmethod
    def load(cls, settings: Adapt, folder: Path, declaration: SegmentPairs) -> SegmentPairObjective:
        """Load an encoder with its masked-LM head and its head for segment pairs."""
        model, new = load_pair_model(folder, declaration.relation)
        return cls(settings, model, new, declaration)

    def build_examples(
        self,
        tokenizer: PreTrainedTokenizerBase,
        texts: Iterable[str],
        max_length: int,
        seed: int,
        unit: Unit = "document",
    ) -> PairExamples:
        """Build segment pairs from texts, each of which is a document.

        Raises:
            UserError: too few texts have two sentences.
        """
        template = segment_pairs.pair_template(tokenizer)
        room = max_length - template.size
        documents = tokenize_documents(tokenizer, texts, max(room // 2, 1), with_word_starts=self._needs_word_starts)
        runs, siblings = segment_pairs.divide_into_runs(documents, room, seed)
        self._check_documents(documents)
        return PairExamples(
            documents=documents,
            runs=runs,
            siblings=siblings,
            relation=self.declaration.relation,
            room=room,
            template=template,
            masks=self._masked(tokenizer, documents.tokens, seed),
        )

    def example_metrics(self, examples: PairExamples) -> dict[str, int]:
        """Return the number of pairs, and of texts without pairs."""
        return {"pairs": len(examples), "texts_of_one_sentence": examples.single_sentence_documents}

    def logits(self, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits at the padded masked positions, (M', V), and logits of the pairs, (B, 2)."""
        assert batch.positions is not None, "masked examples have masked positions"
        self._positions, self._texts = pad_positions(batch.positions), len(batch.inputs["input_ids"])
        try:
            token_logits, pair_logits = model(**batch.inputs)[:2]
        finally:
            self._positions = None
        return token_logits[0], pair_logits

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the cross-entropy summed over masked tokens, and over pairs: (2,)."""
        assert batch.pair_labels is not None, "pairs have labels"
        token_logits, pair_logits = self.logits(model, batch)
        return torch.stack(
            [
                masked_cross_entropy(token_logits, batch.labels),
                functional.cross_entropy(pair_logits, batch.pair_labels, reduction="sum"),
            ]
        )

    def num_items(self, batch: Batch) -> tuple[int, ...]:
        """Return the numbers of masked tokens and of pairs."""
        return len(batch.labels), len(batch.inputs["input_ids"])

    @torch.no_grad()
    def measure(self, examples: PairExamples) -> dict[str, float]:
        """Return metrics of masked tokens, and mean cross-entropy and accuracy of pairs as `nsp_...` or `sop_...`; with
        the pairs and masks of epoch 0."""
        masked, loss, correct = MaskedTokenMetrics(), 0.0, 0
        for batch in evaluation_batches(self.model, examples):
            token_logits, pair_logits = self.logits(self.model, batch)
            assert batch.pair_labels is not None, "pairs have labels"
            masked.add(token_logits, batch)
            loss += float(functional.cross_entropy(pair_logits.float(), batch.pair_labels, reduction="sum"))
            correct += int((pair_logits.argmax(-1) == batch.pair_labels).sum())
        count, name = max(len(examples), 1), self.declaration.name.removeprefix("mlm+")
        metrics = masked.metrics()
        pair_metrics = {f"{name}_loss": loss / count, f"{name}_accuracy": correct / count}
        return {**metrics, **pair_metrics, "objective_loss": metrics["loss"] + loss / count}

    def _check_documents(self, documents: Documents) -> None:
        """Check that enough documents have several sentences: one for swapped pairs, two for random ones."""
        several, total = int((documents.sentences > 1).sum()), len(documents)
        needs = f"objective: {self.declaration.name} needs texts of two sentences or more"
        if not several:
            raise UserError(f"{needs}, but all {total:,} are single sentences; give documents, or write objective: mlm")
        if self.declaration.relation == "next" and several == 1:
            raise UserError(f"{needs}, at least two, and only one of {total:,} is; write objective: mlm")
        if several < total:
            LOG.info("skipping %d of %d texts: they have a single sentence", total - several, total)

    def _select(self, hidden: torch.Tensor) -> torch.Tensor:
        """Reduce hidden states (B, T, H) to the first tokens followed by the masked positions: (1, B + M', H)."""
        if self._positions is None:
            return hidden
        return torch.cat([hidden[:, 0], hidden.flatten(0, 1)[self._positions]]).unsqueeze(0)

    def _first_tokens(self, module: nn.Module, arguments: Any) -> Any:
        """Return the first token of every text, for the pooler: (B, 1, H)."""
        return None if self._positions is None else (arguments[0][0, : self._texts].unsqueeze(1),)

    def _drop_first_tokens(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self._positions is not None:
            output.last_hidden_state = output.last_hidden_state[:, self._texts :]
        return output

    def _reduce_output(self, module: nn.Module, arguments: Any, output: Any) -> Any:
        if self._positions is not None:
            hidden = output.last_hidden_state.flatten(0, 1)  # the pooler has been applied already
            output.last_hidden_state = hidden[self._positions].unsqueeze(0)
        return output


def load_pair_model(folder: Path, relation: Relation) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder with its masked-LM head and its head for segment pairs: BERT's next-sentence head, or ALBERT's
    sentence-order head.

    Returns:
        The model, and the names of parameters that the checkpoint does not contain.

    Raises:
        UserError: the family has no such head, or its inputs do not distinguish two segments.
    """
    config = checkpoints.load_config(folder)
    family = config.model_type
    if relation == "next" and type(config) not in AutoModelForNextSentencePrediction._model_mapping:
        alternative = "`mlm+sop` or `mlm`" if family == "albert" else "`mlm`"
        raise UserError(
            f"objective: mlm+nsp needs an encoder with a next-sentence head, such as BERT, and transformers has none "
            f"for type `{family}`; write objective: {alternative}"
        )
    if relation == "order" and family != "albert":
        alternative = "`mlm+nsp` or `mlm`" if family == "bert" else "`mlm`"
        raise UserError(
            f"objective: mlm+sop needs ALBERT with its sentence-order head, and this encoder is of type `{family}`; "
            f"write objective: {alternative}"
        )
    if getattr(config, "type_vocab_size", 0) < 2:
        raise UserError(
            f"{folder}: the encoder does not distinguish two segments (type_vocab_size {config.type_vocab_size}); "
            "write objective: mlm"
        )
    config.num_labels = 2  # of ALBERT's head: the configuration of a classifier may have more
    return heads.load_pretraining(folder, config)
