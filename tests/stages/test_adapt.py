"""`adapt` stages: each masking and objective trains, resumes and publishes."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AlbertForPreTraining, BertForPreTraining, ElectraForMaskedLM, ElectraForPreTraining

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Classify, Lora
from ftjobs.jobfile.read import read
from ftjobs.models import checkpoints
from ftjobs.objectives.compute.replaced_tokens import load_models
from ftjobs.objectives.replaced_tokens import GENERATOR
from ftjobs.plan import plan
from ftjobs.stages import adapt, classify, prepare
from ftjobs.training.callbacks import TrainingContext
from tests.helpers.checkpointers import FolderCheckpointer, Killed
from tests.helpers.documents import documents_of
from tests.helpers.pipelines import CLASSES, job_fields, run_job, write_rows

SHORT = {"epochs": 2, "learning_rate": 1e-3, "per_device_batch_size": 16, "mixed_precision": "no"}
#: Objectives with a family that supports each, and the class of the published model.
OBJECTIVES = {
    "mlm+nsp": ("bert", BertForPreTraining),
    "mlm+sop": ("albert", AlbertForPreTraining),
    "replaced-token": ("electra", ElectraForPreTraining),
}


@pytest.fixture(scope="module")
def prepared_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`prepared_with(encoder, documents=True)`: output of `prepare` for 90 rows of two texts, each of several sentences
    or of one."""
    folders: dict[Any, Path] = {}

    def make(encoder: Path, documents: bool = False) -> Path:
        if (encoder, documents) not in folders:
            folder = tmp_path_factory.mktemp("prepared")
            write_rows(folder / "rows.csv")
            if documents:
                texts = iter(documents_of(180))
                with (folder / "rows.csv").open("w", newline="") as file:
                    rows = [[next(texts), next(texts), CLASSES[row % 3]] for row in range(90)]
                    csv.writer(file).writerows([["question", "answer", "topic"], *rows])
            (folder / "job.yaml").write_text(json.dumps(job_fields(encoder)))
            run = plan(read(folder / "job.yaml"))[0]
            (folder / "out").mkdir()
            prepare.run(run.settings, 0, {}, folder / "out")
            folders[encoder, documents] = folder / "out"
        return folders[encoder, documents]

    return make


def run_adapt(
    folder: Path, output: Path, checkpointer: Any = None, encoder: Path | None = None, **fields: Any
) -> dict[str, Any]:
    output.mkdir()
    settings = Adapt(**{**SHORT, **fields})
    return adapt.run(
        settings, 1, {"prepare": folder, "encoder": encoder or folder}, output, TrainingContext(checkpointer)
    )


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the files of a stage, except measurements."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "timing.json"}


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("bert", {"masking": "whole-word"}),
        ("bert", {"masking": "span"}),
        *((family, {"objective": objective}) for objective, (family, _) in OBJECTIVES.items()),
    ],
)
def test_loss_falls_and_resuming_gives_the_same_bytes(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path, family: str, fields: dict[str, Any]
) -> None:
    folder = prepared_with(make_encoder(family, "pretraining"), documents=True)
    uninterrupted = run_adapt(folder, tmp_path / "whole", **fields)
    minimized = "objective_loss" if "objective" in fields else "loss"
    assert uninterrupted["best"][minimized] < uninterrupted["before"][minimized]
    (tmp_path / "state").mkdir()
    with pytest.raises(Killed):
        run_adapt(folder, tmp_path / "killed", FolderCheckpointer(tmp_path / "state", 1, 11), **fields)
    assert run_adapt(folder, tmp_path / "again", FolderCheckpointer(tmp_path / "state", 100), **fields) == uninterrupted
    assert files_of(tmp_path / "again") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_published_model_loads_continues_training_and_reproduces_metrics(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path, objective: str
) -> None:
    family, kind = OBJECTIVES[objective]
    folder = prepared_with(make_encoder(family, "pretraining"), documents=True)
    first = run_adapt(folder, tmp_path / "first", objective=objective, epochs=1)
    model, loading = kind.from_pretrained(tmp_path / "first/model", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    original = kind.from_pretrained(folder / "model")
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, original.get_parameter(name)), name  # all heads and the pooler are trained
    second = run_adapt(folder, tmp_path / "second", encoder=tmp_path / "first", objective=objective, epochs=1)
    assert second["before"] == pytest.approx({key: first["best"][key] for key in first["before"]}, rel=1e-4)
    assert second["newly_initialised"] == []
    inputs = {"prepare": folder, "encoder": tmp_path / "first"}
    (tmp_path / "head").mkdir()
    settings = Classify(**{**SHORT, "freeze_encoder": True, "epochs": 1})
    metrics = classify.run(settings, 1, inputs, tmp_path / "head", TrainingContext())
    assert all("classifier" in name for name in metrics["newly_initialised"])


def test_generator_is_published_with_its_discriminator(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = prepared_with(make_encoder("electra", "mlm"), documents=True)
    metrics = run_adapt(folder, tmp_path / "out", objective="replaced-token", generator_size=0.5, epochs=1)
    heads = {name.partition(".")[0] for name in metrics["newly_initialised"]}
    assert heads == {"discriminator", "generator"}
    generator, loading = ElectraForMaskedLM.from_pretrained(
        tmp_path / "out/model" / GENERATOR, output_loading_info=True
    )
    assert not loading["missing_keys"]
    assert generator.config.hidden_size == 16
    discriminator = ElectraForPreTraining.from_pretrained(tmp_path / "out/model")
    assert torch.equal(generator.get_input_embeddings().weight, discriminator.get_input_embeddings().weight)
    masked_lm_head = checkpoints.read_weights(folder / "model")["generator_predictions.dense.weight"]
    kept = checkpoints.read_weights(tmp_path / "out/model")["generator_predictions.dense.weight"]
    assert torch.equal(kept, masked_lm_head)  # the encoder's head, which this objective does not train


def test_missing_next_sentence_head_and_pooler_are_initialized(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    folder = prepared_with(make_encoder("bert", "mlm"), documents=True)
    metrics = run_adapt(folder, tmp_path / "out", objective="mlm+nsp", epochs=1)
    assert {name.rpartition(".")[0] for name in metrics["newly_initialised"]} == {
        *("bert.pooler.dense", "cls.seq_relationship")
    }
    assert "bert.pooler.dense.weight" in checkpoints.read_weights(tmp_path / "out/model")
    assert metrics["texts"] + metrics["texts_of_one_sentence"] == 2 * 72
    assert metrics["pairs"] >= metrics["texts"]
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    assert lines[0]["mlm/nsp_accuracy"] == metrics["before"]["nsp_accuracy"]


@pytest.mark.parametrize(
    ("family", "objective", "message"),
    [
        ("roberta", "mlm+nsp", r"mlm\+nsp needs an encoder with a next-sentence head.*`roberta`.*objective: `mlm`"),
        (
            "albert",
            "mlm+nsp",
            r"mlm\+nsp needs an encoder with a next-sentence head.*`albert`; write objective: `mlm\+sop` or `mlm`",
        ),
        ("bert", "mlm+sop", r"mlm\+sop needs ALBERT.*`bert`; write objective: `mlm\+nsp`"),
        ("bert", "replaced-token", r"replaced-token needs an ELECTRA.*`bert`; write objective: mlm"),
        ("bert", "mlm+nsp", r"mlm\+nsp needs texts of two sentences.*144 .*objective: mlm"),
        ("albert", "mlm+sop", r"mlm\+sop needs texts of two sentences.*144 .*objective: mlm"),
    ],
)
def test_unsupported_encoders_and_texts_raise(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path, family: str, objective: str, message: str
) -> None:
    folder = prepared_with(make_encoder(family, "mlm"))
    with pytest.raises(UserError, match=message):
        run_adapt(folder, tmp_path / "out", objective=objective)


def test_encoder_with_one_token_type_does_not_support_pairs(
    make_encoder: Callable[..., Path], prepared_with: Any, tmp_path: Path
) -> None:
    folder = prepared_with(make_encoder("bert", "mlm", type_vocab_size=1))
    with pytest.raises(UserError, match=r"type_vocab_size 1\); write objective: mlm"):
        run_adapt(folder, tmp_path / "out", objective="mlm+nsp")


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_supports_lora(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path, objective: str
) -> None:
    """Adapters are merged: the published model loads without them and is the measured one."""
    family, kind = OBJECTIVES[objective]
    folder = prepared_with(make_encoder(family, "pretraining"), documents=True)
    first = run_adapt(folder, tmp_path / "first", objective=objective, lora=Lora(rank=4), epochs=1)
    model, loading = kind.from_pretrained(tmp_path / "first/model", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    word_embeddings = model.get_input_embeddings().weight
    assert torch.equal(word_embeddings, kind.from_pretrained(folder / "model").get_input_embeddings().weight)
    second = run_adapt(folder, tmp_path / "second", encoder=tmp_path / "first", objective=objective, epochs=1)
    assert second["before"] == pytest.approx({key: first["best"][key] for key in first["before"]}, rel=1e-4)


def test_published_generator_is_part_of_the_encoder_of_another_job(
    prepared_with: Any, make_encoder: Callable[..., Path], tmp_path: Path
) -> None:
    """`prepare` copies the generator, and the identity depends on its content."""
    folder = prepared_with(make_encoder("electra", "pretraining"), documents=True)
    run_adapt(folder, tmp_path / "first", objective="replaced-token", generator_size=0.5, epochs=1)
    pair = tmp_path / "first/model"
    taken = prepared_with(pair, documents=True)
    generator = Path("model") / GENERATOR
    assert (taken / generator / checkpoints.WEIGHTS).read_bytes() == (
        pair / GENERATOR / checkpoints.WEIGHTS
    ).read_bytes()
    metrics = run_adapt(taken, tmp_path / "second", objective="replaced-token", epochs=1)
    assert metrics["newly_initialised"] == []
    again = ElectraForMaskedLM.from_pretrained(tmp_path / "second" / generator)
    assert again.config.hidden_size == 16

    write_rows(tmp_path / "rows.csv")
    (tmp_path / "job.yaml").write_text(json.dumps(job_fields(pair)))
    before = plan(read(tmp_path / "job.yaml"))[0].identity
    (pair / GENERATOR / "config.json").write_text((pair / GENERATOR / "config.json").read_text() + " ")
    assert plan(read(tmp_path / "job.yaml"))[0].identity != before

    shutil.copytree(make_encoder("electra", "mlm", embedding_size=8), tmp_path / "wrong" / GENERATOR)
    shutil.copytree(folder / "model", tmp_path / "wrong", dirs_exist_ok=True)
    with pytest.raises(UserError, match=r"generator: not a generator"):
        load_models(tmp_path / "wrong", 0.25)


@pytest.mark.parametrize(
    ("family", "fields", "unit"),
    [
        ("electra", {"objective": "replaced-token"}, {"unit": "packed", "isolate": True}),
        ("bert", {"objective": "mlm+nsp", "masking": "span"}, {}),
        ("bert", {"masking": "span"}, {"unit": "packed"}),
    ],
)
def test_objectives_and_maskings_on_a_separate_corpus(
    make_encoder: Callable[..., Path], tmp_path: Path, family: str, fields: dict[str, Any], unit: dict[str, Any]
) -> None:
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents_of(120)))
    job = job_fields(make_encoder(family, "pretraining"), hypotheses=[])
    corpus = {"source": "corpus.jsonl", "near_duplicates": "keep", "held_out": 20, **unit}
    job["stages"] = {"adapt": {"kind": "adapt", **SHORT, **fields, "max_length": 40, "corpus": corpus}}
    _, manifests = run_job(tmp_path, job, tmp_path / "store")
    metrics = manifests["adapt seed 1"].metrics
    minimized = "objective_loss" if "objective" in fields else "loss"
    assert metrics["best"][minimized] < metrics["before"][minimized]
    assert metrics["evaluated_on"] == "corpus"
