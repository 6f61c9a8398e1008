"""Encoders with the heads that they were pretrained with: sentence pairs, and replaced tokens."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import (
    AutoModelForNextSentencePrediction,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ftjobs.data.examples.segment_pairs import Relation
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import GENERATOR
from ftjobs.models import checkpoints, heads


def load_sentence_pairs(folder: Path, relation: Relation) -> tuple[PreTrainedModel, list[str]]:
    """An encoder with its masked-LM head and its head on pairs of segments: BERT's for next ones, ALBERT's for order.

    Returns:
        The model, and the names of parameters that the checkpoint did not hold.

    Raises:
        UserError: the family was not pretrained so, or its inputs do not tell two segments apart.
    """
    config = checkpoints.load_config(folder)
    family = config.model_type
    if relation == "next" and type(config) not in AutoModelForNextSentencePrediction._model_mapping:
        instead = "`mlm+sop` or `mlm`" if family == "albert" else "`mlm`"
        raise UserError(
            f"objective: mlm+nsp needs an encoder with a next-sentence head, as BERT's, and those of type `{family}` "
            f"have none in transformers; write objective: {instead}"
        )
    if relation == "order" and family != "albert":
        instead = "`mlm+nsp` or `mlm`" if family == "bert" else "`mlm`"
        raise UserError(
            f"objective: mlm+sop needs ALBERT, which has a head for the order of sentences, and this encoder is of "
            f"type `{family}`; write objective: {instead}"
        )
    if getattr(config, "type_vocab_size", 0) < 2:
        raise UserError(
            f"{folder}: has token types for one segment only (type_vocab_size {config.type_vocab_size}), so it cannot "
            "tell two apart; write objective: mlm"
        )
    config.num_labels = 2  # of ALBERT's head; a classifier that this encoder comes from may have had more
    return heads.load_pretraining(folder, config)


def load_replaced_token(folder: Path, size: float) -> tuple[ElectraForPreTraining, ElectraForMaskedLM, list[str]]:
    """An ELECTRA encoder with its replaced-token head, and its generator: the one beside it, or a new one.

    Args:
        folder: a checkpoint; one that this objective was trained on before holds its generator.
        size: of a new generator, as a share of the encoder's attention heads, width and feed-forward width.

    Returns:
        Discriminator and generator, and the names of parameters that the checkpoint did not hold.

    Raises:
        UserError: the encoder is no ELECTRA.
    """
    config = checkpoints.load_config(folder)
    if config.model_type != "electra":
        raise UserError(
            f"objective: replaced-token needs an ELECTRA encoder, and this one is of type `{config.model_type}`, for "
            "which transformers has no replaced-token head; write objective: mlm"
        )
    discriminator, new = heads.load_pretraining(folder, config)
    if (folder / GENERATOR).is_dir():
        generator, missing = heads.load_masked_lm(folder / GENERATOR)
        ours, its = ((one.vocab_size, one.embedding_size) for one in (config, generator.config))
        if type(generator) is not ElectraForMaskedLM or ours != its:
            raise UserError(
                f"{folder / GENERATOR}: is no generator for this encoder, with which it has to share embeddings; put "
                "the one there that the encoder was pretrained with, or none"
            )
    else:
        generator = ElectraForMaskedLM(_generator_config(config, size)).to(torch.float32)
        missing = [name for name, _ in generator.named_parameters() if ".embeddings." not in name]
    names = [f"discriminator.{name}" for name in new] + [f"generator.{name}" for name in missing]
    return discriminator, generator, sorted(names)


def save_replaced_token(
    discriminator: PreTrainedModel,
    generator: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    beyond: dict[str, torch.Tensor],
) -> None:
    """Write the discriminator as the checkpoint that later stages take, and its generator in a folder within."""
    heads.save(discriminator, tokenizer, folder, beyond)
    generator.save_pretrained(folder / GENERATOR)


def _generator_config(config: PreTrainedConfig, size: float) -> PreTrainedConfig:
    """The configuration of a generator with the discriminator's layers and embeddings, `size` times as wide."""
    small = copy.deepcopy(config)
    width = config.hidden_size // config.num_attention_heads
    small.num_attention_heads = max(1, round(size * config.num_attention_heads))
    small.hidden_size = width * small.num_attention_heads
    small.intermediate_size = max(1, round(size * config.intermediate_size))
    return small
