"""Untested encoder families: they work with auto classes, and missing support raises one line."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModel, AutoModelForMaskedLM

from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints, heads
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training import features
from ftjobs.training.objective import predict_logits
from tests.helpers.families import LONGEST, SIZES, WORDS, tiny_tokenizer

BEHIND_PADDING = {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}
TEXTS = [" ".join(WORDS[start : 2 * start + 3]) for start in range(10)]


def random_checkpoint(
    folder: Path, kind: str, tokenizer: str, auto_class: Any = AutoModelForMaskedLM, **options: Any
) -> Path:
    """Return a random checkpoint of a family, with the tokenizer of another."""
    saved = tiny_tokenizer(tokenizer)
    saved.model_max_length = 10**30
    ids = {name: getattr(saved, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = getattr(transformers, f"{kind}Config")(vocab_size=len(saved), **ids, **(SIZES | options))
    torch.manual_seed(1)
    auto_class.from_config(config).save_pretrained(folder)
    saved.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "tokenizer", "options"),
    [
        ("Ernie", "bert", {}),
        ("RoFormer", "bert", {"embedding_size": 16}),
        ("ConvBert", "bert", {"embedding_size": 16}),
        ("Camembert", "roberta", BEHIND_PADDING),
        ("Data2VecText", "roberta", BEHIND_PADDING),
        ("Luke", "roberta", {**BEHIND_PADDING, "entity_vocab_size": 9, "entity_emb_size": 8}),
    ],
)
def test_untested_family_matches_transformers(
    kind: str, tokenizer: str, options: dict[str, Any], tmp_path: Path
) -> None:
    folder = random_checkpoint(tmp_path, kind, tokenizer, initializer_range=0.2, **options)
    loaded = checkpoints.load_tokenizer(folder)
    model, new = heads.load_masked_lm(folder)
    assert new == []
    assert checkpoints.max_input_length(model, loaded, 512) == LONGEST
    model(input_ids=torch.full((1, LONGEST), 7))
    examples = MaskedExamples(
        tokenize(loaded, TEXTS, None, LONGEST), 1, 0.5, loaded.mask_token_id, len(loaded), loaded.pad_token_id
    )
    batch = examples.batch(np.arange(len(TEXTS)), 1)
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    labels.view(-1)[batch.positions] = batch.labels
    with torch.no_grad():
        expected = model.eval()(**batch.inputs, labels=labels).loss
        loss = MaskedLMObjective(Adapt(), model, []).loss(model, batch) / len(batch.labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)

    classifier, new = heads.load_classifier(folder, ["no", "yes"])
    heads.freeze_encoder(classifier, new)
    rows = LabeledExamples(tokenize(loaded, TEXTS, TEXTS[::-1], 32), np.arange(10) % 2, loaded.pad_token_id)
    if features.supports_feature_cache(classifier, rows):
        logits = predict_logits(classifier, rows)
        computed = features.compute(classifier, rows, "features")
        with features.feature_encoder(classifier):
            np.testing.assert_allclose(predict_logits(classifier, computed), logits, rtol=1e-4, atol=1e-5)
    else:
        assert kind == "Luke"  # reads its entities too


def test_new_biases_are_initialized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data2Vec leaves the bias of a new masked-LM head uninitialized."""
    folder = random_checkpoint(tmp_path, "Data2VecText", "roberta", AutoModel, **BEHIND_PADDING)
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *args, **options: empty(*args, **options).fill_(torch.nan))
    model, new = heads.load_masked_lm(folder)
    assert "lm_head.bias" in new
    assert all(torch.isfinite(model.get_parameter(name)).all() for name in new)


def test_encoder_that_attends_to_padding_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = random_checkpoint(tmp_path, "FNet", "bert", initializer_range=0.2)
    logging.getLogger("ftjobs").propagate = True
    with caplog.at_level(logging.WARNING, logger="ftjobs"):
        heads.load_masked_lm(folder)
    assert re.search(r"`fnet` .*padding", caplog.text)


def test_encoder_without_short_texts_raises(tmp_path: Path) -> None:
    options = {"num_landmarks": 16, "segment_means_seq_len": 64, "conv_kernel_size": 5}
    folder = random_checkpoint(tmp_path, "Nystromformer", "bert", **options)
    with pytest.raises(UserError, match=r"`nystromformer` .*choose another encoder") as caught:
        heads.load_classifier(folder, ["no", "yes"])
    assert "\n" not in str(caught.value)


def test_encoder_decoder_raises(tmp_path: Path) -> None:
    sizes = {"d_model": 32, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
    folder = random_checkpoint(tmp_path, "Bart", "roberta", encoder_layers=1, decoder_layers=1, **sizes)
    with pytest.raises(UserError, match="`bart` have a decoder"):
        heads.load_masked_lm(folder)


def test_family_without_head_raises(tmp_path: Path, make_encoder: Callable[..., Path]) -> None:
    folder = random_checkpoint(
        tmp_path, "T5", "roberta", AutoModel, d_model=32, d_ff=32, num_layers=1, num_heads=2, d_kv=16
    )
    with pytest.raises(UserError, match="have a decoder"):
        heads.load_masked_lm(folder)
    gpt = random_checkpoint(tmp_path / "gpt", "GPT2", "roberta", AutoModel, n_embd=32, n_layer=1, n_head=2)
    with pytest.raises(UserError, match=r"`gpt2` .*MaskedLM head"):
        heads.load_masked_lm(gpt)
