"""Every family through every stage: published outputs match transformers on the same weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.execution import runner
from ftjobs.jobfile.fields import Adapt
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints, heads
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from ftjobs.training import features
from ftjobs.training.objective import predict_logits
from ftjobs.training.speedups import last_layer
from tests.helpers.classifiers import check_predictions
from tests.helpers.families import FAMILIES, LONGEST, WITH_TOKEN_TYPES, WORDS, tiny_tokenizer
from tests.helpers.pipelines import job_fields, write_rows

#: Scale of pretrained weights: with that of a new model, outputs of all texts are nearly equal.
SPREAD = {"initializer_range": 0.2}
#: Heads in the checkpoint that masked language modeling does not use.
BEYOND = {
    "bert": {"bert.pooler.dense", "cls.seq_relationship"},
    "roberta": {"roberta.pooler.dense"},
    "xlm-roberta": {"roberta.pooler.dense"},
    "distilbert": set(),
    "albert": {"albert.pooler", "sop_classifier.classifier"},
    "electra": {"discriminator_predictions.dense", "discriminator_predictions.dense_prediction"},
    "deberta-v2": set(),
    "mpnet": {"mpnet.pooler.dense"},
    "modernbert": set(),
}


def whole_checkpoint(make_encoder: Callable[..., Path], family: str, folder: Path) -> Path:
    """Return a checkpoint with all pretraining heads of the family and its pooler."""
    encoders = {head: make_encoder(family, head, **SPREAD) for head in ("mlm", "base")}
    if BEYOND[family] and family in ("bert", "albert", "electra"):
        encoders["pretraining"] = make_encoder(family, "pretraining", **SPREAD)
    model, _ = heads.load_masked_lm(encoders["mlm"])
    weights = {f"{model.base_model_prefix}.{name}": w for name, w in checkpoints.read_weights(encoders["base"]).items()}
    for head in ("pretraining", "mlm"):
        weights |= checkpoints.read_weights(encoders[head]) if head in encoders else {}
    model.save_pretrained(folder)
    checkpoints.write_weights(weights, folder)
    tiny_tokenizer(family).save_pretrained(folder)
    return folder


def run_stages(folder: Path, encoder: Path) -> dict[str, Path]:
    """Prepare, adapt, and train with the frozen and the unfrozen adapted encoder. Returns artifact folders by stage."""
    write_rows(folder / "rows.csv", 40)
    with (folder / "rows.csv").open("a") as rows:
        rows.write(f"{' '.join(WORDS * 2)},{' '.join(WORDS)},rash\n" * 2)
    short = {"epochs": 1, "learning_rate": 1e-3, "mixed_precision": "no", "per_device_batch_size": 16}
    fields = job_fields(encoder, hypotheses=[], defaults={"classify": short, "adapt": short})
    fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head", "adapted-behavioural")}
    (folder / "job.yaml").write_text(json.dumps(fields))
    storage = open_storage(str(folder / "store"))
    runs = [run for run in plan(read(folder / "job.yaml")) if run.kind != "report"]
    return {run.stage: folder / "store" / runner.run_stage(run, storage).folder for run in runs}


@pytest.mark.parametrize("family", FAMILIES)
def test_family_runs_through_every_stage(make_encoder: Callable[..., Path], family: str, tmp_path: Path) -> None:
    folders = run_stages(tmp_path, whole_checkpoint(make_encoder, family, tmp_path / "encoder"))
    metrics = {
        stage: json.loads((path / "metrics.json").read_text()) for stage, path in folders.items() if stage != "prepare"
    }
    assert {record["max_length"] for record in metrics.values()} == {LONGEST}
    assert metrics["adapt"]["newly_initialised"] == []
    assert metrics["adapt"]["last"]["loss"] < metrics["adapt"]["before"]["loss"]
    check_adapted_encoder(folders, family)
    check_masked_lm_loss(folders["adapt"] / "model", family)
    for stage in ("adapted-head", "adapted-behavioural"):
        check_predictions(folders, stage)
    check_frozen_encoder(folders, family)


def check_adapted_encoder(folders: dict[str, Path], family: str) -> None:
    """Check that every weight is published, unused heads are unchanged, and tied weights are tied."""
    before, after = (checkpoints.read_weights(folders[stage] / "model") for stage in ("prepare", "adapt"))
    model, loading = AutoModelForMaskedLM.from_pretrained(folders["adapt"] / "model", output_loading_info=True)
    assert not loading["missing_keys"]
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    assert {name.rpartition(".")[0] for name in before.keys() - trained} == BEYOND[family]
    for name in before.keys() - trained:
        assert torch.equal(after[name], before[name]), name
    assert any(not torch.equal(after[name], before[name]) for name in before.keys() & after.keys() & trained)
    assert before.keys() - after.keys() <= set(model.all_tied_weights_keys)
    embedding, output = model.get_input_embeddings(), model.get_output_embeddings()
    assert output.weight is embedding.weight
    names = [name for name, p in model.named_parameters(remove_duplicate=False) if p is embedding.weight]
    stored = [after[name] for name in names if name in after]
    assert stored
    assert all(torch.equal(weight, embedding.weight) for weight in stored)


def check_masked_lm_loss(folder: Path, family: str) -> None:
    """Check the loss against the model's own, that special tokens are never masked, and token types."""
    tokens, tokenizer = some_tokens(folder, paired=False)
    model, _ = heads.load_masked_lm(folder)
    assert "".join(AutoTokenizer.from_pretrained(folder).model_input_names) == "".join(tokenizer.model_input_names)
    examples = MaskedExamples(tokens, 1, 0.5, tokenizer.mask_token_id, len(tokenizer), tokenizer.pad_token_id)
    batch = examples.batch(np.arange(len(tokens)), 1)
    assert ("token_type_ids" in batch.inputs) == (family in WITH_TOKEN_TYPES)
    assert not set(batch.labels.tolist()) & set(tokenizer.all_special_ids)
    labels = torch.full_like(batch.inputs["input_ids"], -100)
    labels.view(-1)[batch.positions] = batch.labels
    with torch.no_grad():
        expected = model.eval()(**batch.inputs, labels=labels).loss
        loss = MaskedLMObjective(Adapt(), model, []).loss(model, batch) / len(batch.labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def check_frozen_encoder(folders: dict[str, Path], family: str) -> None:
    """Check that frozen weights equal the adapted ones, and that speed-ups give the same logits."""
    adapted = checkpoints.read_weights(folders["adapt"] / "model")
    frozen, tuned = (checkpoints.read_weights(folders[f"adapted-{kind}"] / "model") for kind in ("head", "behavioural"))
    prefix = f"{heads.load_masked_lm(folders['adapt'] / 'model')[0].base_model_prefix}."
    encoder = [name for name in frozen if name.startswith(prefix)]
    assert all(torch.equal(frozen[name], adapted[name]) for name in encoder)
    assert any(not torch.equal(tuned[name], adapted[name]) for name in encoder)

    folder = folders["adapted-head"] / "model"
    tokens, tokenizer = some_tokens(folder, paired=True)
    examples = LabeledExamples(tokens, np.zeros(len(tokens), np.int64), tokenizer.pad_token_id)
    batch = examples.batch(np.arange(len(tokens)), 0).inputs
    assert ("token_type_ids" in batch) == (family in WITH_TOKEN_TYPES)
    assert family not in WITH_TOKEN_TYPES or batch["token_type_ids"].any(1).all()
    model, new = heads.load_classifier(folder, ["cold", "fever", "rash"])
    assert new == []
    slow = predict_logits(model, examples)
    assert features.supports_feature_cache(model, examples)
    computed = features.compute(model, examples, "features")
    with features.feature_encoder(model):
        np.testing.assert_allclose(predict_logits(model, computed), slow, rtol=1e-4, atol=1e-5)
    last_layer.keep_first_token(model)
    np.testing.assert_allclose(predict_logits(model, examples), slow, rtol=1e-4, atol=1e-5)


def some_tokens(folder: Path, paired: bool) -> tuple[Tokens, Any]:
    tokenizer = checkpoints.load_tokenizer(folder)
    texts = [" ".join(WORDS[start : 2 * start + 3]) for start in range(12)]
    return tokenize(tokenizer, texts, texts[::-1] if paired else None, LONGEST), tokenizer
