"""`classify`: train a classifier on the labels, on a frozen or a fine-tuned encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from accelerate.utils import set_seed
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data import prepared
from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.data.prepared import PreparedData
from ftjobs.jobfile.fields import Classify
from ftjobs.models import checkpoints, heads
from ftjobs.system.device import training_device
from ftjobs.system.progress import LOG
from ftjobs.training import evaluation, features, layerwise, lora, memory
from ftjobs.training.context import TrainingContext
from ftjobs.training.features import FeatureExamples
from ftjobs.training.loop import train
from ftjobs.training.speedups import last_layer, sparse_embeddings


def run(
    settings: Classify, seed: int, inputs: dict[str, Path], output: Path, session: TrainingContext
) -> dict[str, Any]:
    """Train a classifier from the encoder of `inputs["encoder"]`, on the data of `inputs["prepare"]`, or of
    `inputs["data"]` where the stage has its own.

    Writes `model/` (the best epoch), `metrics.json` (every epoch, on every held-out split), `metrics.jsonl` (also every
    tenth step), `predictions.parquet` (one row per test example) and `timing.json`.

    Raises:
        UserError: the encoder cannot be a classifier.
    """
    memory.reset_peak_memory()
    data = prepared.read(inputs.get("data", inputs["prepare"]) / "data")
    folder = inputs["encoder"] / "model"
    tokenizer = checkpoints.load_tokenizer(folder)
    set_seed(seed)
    model, new = heads.load_classifier(folder, data.classes, data.label_type)
    LOG.info("newly initialised, trained as head: %s", heads.new_modules(new))
    limit = checkpoints.longest_input(model, tokenizer, settings.max_length)
    texts = _tokenized(data, tokenizer, limit)
    tuned = layerwise.prepare(model, settings)
    last_layer.keep_first_token(model)
    model.to(training_device())
    examples, frozen = _freeze(model, new, settings, texts, session)
    judge = Evaluator(model, data, settings.metric_for_best)

    def training_mode() -> None:
        model.train()
        if settings.freeze_encoder and not settings.encoder_dropout:
            model.base_model.eval()

    criterion = data.task.criterion(settings, data.classes, texts["train"].labels)
    used = texts["train"].tokens.input_ids
    head = [name for name, _ in model.named_parameters() if name in new or not heads.is_encoder(model, name)]
    with (
        lora.adapters(model, settings.lora, head) as adapted,
        features.feature_encoder(model) if frozen else sparse_embeddings.train_used_rows_only(model, used),
    ):
        trained = train(
            model,
            examples["train"],
            settings,
            seed=seed,
            loss=criterion.loss,
            items=criterion.num_items,
            evaluate=lambda: judge.evaluate(examples),
            score=judge.score,
            training_mode=training_mode,
            tuning=tuned,
            checkpointer=session.checkpointer,
            on_step=session.log_step,
            on_epoch=session.log_epoch,
            title="classify",
        )
    # From the model that is published, whole, and not from what the loop saw of it.
    test_logits = evaluation.logits(model, texts["test"])
    heads.save(model.cpu(), tokenizer, output / "model", {})
    _write_predictions(data, test_logits, output / "predictions.parquet")
    metrics = {
        **judge.measure("test", test_logits),
        "best_epoch": trained.best_epoch,
        "selected_on": data.selection_split,
        "last": trained.epochs[-1]["test"],
        "newly_initialised": new,
        "truncated": {name: each.tokens.truncated for name, each in texts.items()},
        "max_length": limit,
        **trained.stopping(settings),
    }
    if counted := adapted or (tuned and tuned.parameters(model)):
        metrics["parameters"] = counted
    if (weights := criterion.class_weights) is not None:
        metrics["class_weights"] = dict(zip(data.classes, weights, strict=True))
    trained.write(output, metrics, len(texts["train"]))
    return metrics


class Evaluator:
    """Measures a classifier on the splits that are held out."""

    def __init__(self, model: PreTrainedModel, data: PreparedData, metric: str) -> None:
        """`metric`: the one that epochs are chosen by."""
        self.model, self.data, self.metric = model, data, metric

    def measure(self, split: str, outputs: np.ndarray) -> dict[str, float]:
        """Metrics of the logits (N, C) of a split."""
        return self.data.task.compute_metrics(outputs, np.asarray(self.data.splits[split].labels))

    def evaluate(self, examples: Mapping[str, LabeledExamples | FeatureExamples]) -> dict[str, Any]:
        """Metrics of the model as it is now, by split."""
        held_out = [name for name in ("validation", "test") if name in examples]
        return {name: self.measure(name, evaluation.logits(self.model, examples[name])) for name in held_out}

    def score(self, found: dict[str, Any]) -> float:
        """What `evaluate` found, as one number: the higher the better."""
        return self.data.task.score(found[self.data.selection_split], self.metric)


def _tokenized(data: PreparedData, tokenizer: PreTrainedTokenizerBase, limit: int) -> dict[str, LabeledExamples]:
    found = {}
    for name, rows in data.splits.items():
        assert rows.labels is not None, "the job file's checks let no classify stage through without labels"
        tokens = tokenize(tokenizer, rows.texts, rows.pairs, limit)
        found[name] = LabeledExamples(tokens, rows.labels, tokenizer.pad_token_id)
    return found


def _freeze(
    model: PreTrainedModel,
    new: list[str],
    settings: Classify,
    texts: dict[str, LabeledExamples],
    session: TrainingContext,
) -> tuple[dict[str, LabeledExamples] | dict[str, FeatureExamples], bool]:
    """Freeze the encoder if asked to. Returns the examples to train on, and whether they are features of texts."""
    if not settings.freeze_encoder:
        return texts, False
    heads.freeze_encoder(model, new)
    if settings.encoder_dropout:
        return texts, False
    if not features.supports_feature_cache(model, texts["train"]):
        LOG.info("the head of `%s` needs more than one vector per text: no features kept", model.config.model_type)
        return texts, False
    return features.of_splits(model, texts, session.checkpointer, settings.mixed_precision), True


def _write_predictions(data: PreparedData, logits: np.ndarray, path: Path) -> None:
    """Write one row per test example: `id`, `label`, `prediction`, and `probabilities` (float64, C) if it has any.

    Args:
        data: the data that the model was trained on.
        logits: float32 (N, C), for the test rows.
        path: of the parquet file.
    """
    rows, task = data.splits["test"], data.task
    assert rows.labels is not None, "the job file's checks let no classify stage through without labels"
    columns = {
        "id": pa.array(rows.ids),
        "label": task.decode(rows.labels, data.classes),
        "prediction": task.decode(task.predict(logits), data.classes),
    }
    if task.has_probabilities:
        columns["probabilities"] = pa.array(list(task.probabilities(logits)))
    pq.write_table(pa.table(columns), path)
