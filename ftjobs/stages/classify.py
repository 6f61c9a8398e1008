"""`classify`: train a classifier on the labels, on a frozen or a fine-tuned encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from accelerate.utils import set_seed
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftjobs.data import prepared
from ftjobs.data.examples.batching import Batch, LabeledExamples
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.data.prepared import PreparedData
from ftjobs.jobfile.fields import Classify
from ftjobs.models import checkpoints, heads
from ftjobs.system.device import reset_peak_memory, training_device
from ftjobs.system.progress import LOG
from ftjobs.tasks import Criterion
from ftjobs.training import features, layerwise, lora
from ftjobs.training.callbacks import TrainingContext
from ftjobs.training.features import FeatureExamples
from ftjobs.training.loop import train
from ftjobs.training.objective import TrainingObjective, predict_logits
from ftjobs.training.speedups import last_layer, sparse_embeddings


def run(
    settings: Classify, seed: int, inputs: dict[str, Path], output: Path, context: TrainingContext
) -> dict[str, Any]:
    """Train a classifier from the encoder of `inputs["encoder"]`, on the data of `inputs["prepare"]`, or of
    `inputs["data"]` if the stage has separate data.

    Writes `model/` (the best epoch), `metrics.json` (every epoch, on every held-out split), `metrics.jsonl` (also every
    tenth step), `predictions.parquet` (one row per test example) and `timing.json`.

    Raises:
        UserError: the encoder does not support classification.
    """
    reset_peak_memory()
    data = prepared.read(inputs.get("data", inputs["prepare"]) / "data")
    folder = inputs["encoder"] / "model"
    tokenizer = checkpoints.load_tokenizer(folder)
    set_seed(seed)
    model, new = heads.load_classifier(folder, data.classes, data.label_type)
    LOG.info("newly initialized, trained as head: %s", heads.new_modules(new))
    max_length = checkpoints.max_input_length(model, tokenizer, settings.max_length)
    texts = _tokenize_splits(data, tokenizer, max_length)
    layers = layerwise.prepare(model, settings)
    last_layer.keep_first_token(model)
    model.to(training_device())
    examples, use_features = _freeze_encoder(model, new, settings, texts, context)
    criterion = data.task.criterion(settings, data.classes, texts["train"].labels)
    evaluator = Evaluator(model, data, settings.metric_for_best)
    objective = ClassificationObjective(settings, model, criterion, evaluator, examples)
    used_tokens = texts["train"].tokens.input_ids
    head = [name for name, _ in model.named_parameters() if name in new or not heads.is_encoder(model, name)]
    with (
        lora.adapters(model, settings.lora, head) as parameter_counts,
        features.feature_encoder(model) if use_features else sparse_embeddings.train_used_rows_only(model, used_tokens),
    ):
        trained = train(model, examples["train"], settings, objective, seed=seed, context=context, layerwise=layers)
    test_logits = predict_logits(model, texts["test"])  # of the published model, after merging and restoring
    heads.save(model.cpu(), tokenizer, output / "model", {})
    _write_predictions(data, test_logits, output / "predictions.parquet")
    metrics = {
        **evaluator.metrics("test", test_logits),
        "best_epoch": trained.best_epoch,
        "selected_on": data.selection_split,
        "last": trained.epochs[-1]["test"],
        "newly_initialised": new,
        "truncated": {name: split.tokens.truncated for name, split in texts.items()},
        "max_length": max_length,
        **trained.stopping(settings),
    }
    if parameters := parameter_counts or (layers and layers.parameters(model)):
        metrics["parameters"] = parameters
    if (weights := criterion.class_weights) is not None:
        metrics["class_weights"] = dict(zip(data.classes, weights, strict=True))
    trained.write(output, metrics, len(texts["train"]))
    return metrics


class Evaluator:
    """Metrics and score of a classifier on held-out splits."""

    def __init__(self, model: PreTrainedModel, data: PreparedData, metric: str) -> None:
        """
        Args:
            model: the classifier.
            data: its data.
            metric: selects the best epoch.
        """
        self.model, self.data, self.metric = model, data, metric

    def metrics(self, split: str, logits: np.ndarray) -> dict[str, float]:
        """Return the metrics of logits (N, C) for a split."""
        return self.data.task.compute_metrics(logits, np.asarray(self.data.splits[split].labels))

    def evaluate(self, examples: Mapping[str, LabeledExamples | FeatureExamples]) -> dict[str, Any]:
        """Return the metrics of the model in its current state, by held-out split."""
        held_out = [name for name in ("validation", "test") if name in examples]
        return {name: self.metrics(name, predict_logits(self.model, examples[name])) for name in held_out}

    def score(self, metrics: dict[str, Any]) -> float:
        """Return the score of `evaluate` metrics: higher is better."""
        return self.data.task.score(metrics[self.data.selection_split], self.metric)


class ClassificationObjective(TrainingObjective):
    """Training of a classifier: the loss of the task, evaluated on the held-out splits."""

    title = "classify"

    def __init__(
        self,
        settings: Classify,
        model: PreTrainedModel,
        criterion: Criterion,
        evaluator: Evaluator,
        examples: Mapping[str, LabeledExamples | FeatureExamples],
    ) -> None:
        self.criterion, self.evaluator, self.examples = criterion, evaluator, examples
        #: The frozen encoder, which stays in eval mode; None if its dropout is used.
        self.frozen = model if settings.freeze_encoder and not settings.encoder_dropout else None

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Return the loss of the task, summed over a batch: scalar."""
        return self.criterion.loss(model, batch)

    def num_items(self, batch: Batch) -> float:
        """Return the number of examples, or the sum of their weights."""
        return self.criterion.num_items(batch)

    def evaluate(self) -> dict[str, Any]:
        """Return metrics by held-out split."""
        return self.evaluator.evaluate(self.examples)

    def score(self, metrics: dict[str, Any]) -> float:
        """Return the metric that selects the best epoch, negated if lower is better."""
        return self.evaluator.score(metrics)

    def set_training_mode(self, model: nn.Module) -> None:
        """Put the model into training mode, except a frozen encoder."""
        model.train()
        if self.frozen is not None:
            self.frozen.base_model.eval()


def _tokenize_splits(
    data: PreparedData, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> dict[str, LabeledExamples]:
    examples = {}
    for name, rows in data.splits.items():
        assert rows.labels is not None, "job files with a classify stage have labels"
        tokens = tokenize(tokenizer, rows.texts, rows.pairs, max_length)
        examples[name] = LabeledExamples(tokens, rows.labels, tokenizer.pad_token_id)
    return examples


def _freeze_encoder(
    model: PreTrainedModel,
    new: list[str],
    settings: Classify,
    texts: dict[str, LabeledExamples],
    context: TrainingContext,
) -> tuple[dict[str, LabeledExamples] | dict[str, FeatureExamples], bool]:
    """Freeze the encoder if the settings require it.

    Returns:
        The examples by split, and whether they are cached features instead of texts.
    """
    if not settings.freeze_encoder:
        return texts, False
    heads.freeze_encoder(model, new)
    if settings.encoder_dropout:
        return texts, False
    if not features.supports_feature_cache(model, texts["train"]):
        LOG.info("no cached features: the head of `%s` needs more than one vector per text", model.config.model_type)
        return texts, False
    return features.load_or_compute(model, texts, context.checkpointer, settings.mixed_precision), True


def _write_predictions(data: PreparedData, logits: np.ndarray, path: Path) -> None:
    """Write one row per test example: `id`, `label`, `prediction`, and `probabilities` (float64, C) if it has any.

    Args:
        data: the data that the model was trained on.
        logits: float32 (N, C), for the test rows.
        path: of the parquet file.
    """
    rows, task = data.splits["test"], data.task
    assert rows.labels is not None, "job files with a classify stage have labels"
    columns = {
        "id": pa.array(rows.ids),
        "label": task.decode(rows.labels, data.classes),
        "prediction": task.decode(task.predict(logits), data.classes),
    }
    if task.has_probabilities:
        columns["probabilities"] = pa.array(list(task.probabilities(logits)))
    pq.write_table(pa.table(columns), path)
