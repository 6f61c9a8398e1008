"""`adapt`: continue pretraining the encoder on texts of the domain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.examples.masked_examples import Unit
from ftjobs.data.prepared import ChainedTexts, PreparedData
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Corpus
from ftjobs.models import checkpoints, heads
from ftjobs.models.tokenizer_extension import extend
from ftjobs.objectives import get_objective
from ftjobs.objectives.compute.pretraining import PretrainingObjective, TextExamples
from ftjobs.system.device import reset_peak_memory, training_device
from ftjobs.system.progress import LOG
from ftjobs.training import lora
from ftjobs.training.callbacks import TrainingContext
from ftjobs.training.loop import train
from ftjobs.training.output import TrainOutput, initial_metrics

#: Seed of the masks of held-out texts, the same in every stage, so that losses are comparable.
_EVALUATION_SEED = 0
#: Counts of a corpus that are part of the metrics of stages that train on it.
_CORPUS_COUNTS = ("read", "empty", "contaminated", "exact_duplicates", "near_duplicates", "train", "held_out")


def run(settings: Adapt, seed: int, inputs: dict[str, Path], output: Path, context: TrainingContext) -> dict[str, Any]:
    """Adapt the encoder of `inputs["encoder"]` to the texts of `inputs["prepare"]` or `inputs["corpus"]`.

    Writes `model/` (the encoder with its heads and every other weight of its input), `metrics.json` (every epoch),
    `metrics.jsonl` (also every tenth step), `timing.json`, and `vocabulary.json` (added words) if there are any.

    Raises:
        UserError: the encoder or the texts do not support the objective.
    """
    reset_peak_memory()
    data = prepared.read(inputs["prepare"] / "data")
    folder = inputs["encoder"] / "model"
    tokenizer = checkpoints.load_tokenizer(folder)
    set_seed(seed)
    objective = get_objective(settings.objective).load(settings, folder)
    objective.check_tokenizer(tokenizer)
    if objective.new:
        LOG.info("newly initialized, not in the checkpoint: %s", heads.new_modules(objective.new))
    extra_weights = heads.extra_weights(objective.encoder, folder)
    max_length = checkpoints.max_input_length(objective.encoder, tokenizer, settings.max_length)
    texts = select_texts(settings, data, inputs)
    extension = None
    if settings.vocabulary is not None:
        tokenizer, extension = extend(
            objective.encoder, tokenizer, texts.train, texts.held_out, settings.vocabulary, seed
        )
    examples = objective.build_examples(tokenizer, texts.train, max_length, seed, texts.unit)
    objective.held_out = _held_out_examples(objective, tokenizer, texts, max_length)
    if texts.unit == "isolated":
        objective.enable_document_masking()
    LOG.info(
        "adapting on %d texts of %d tokens, %d cut to %d; evaluating on %d %s texts",
        examples.texts, len(examples.tokens.input_ids), examples.tokens.truncated, max_length,
        objective.held_out[""].texts, texts.evaluated_on,
    )  # fmt: skip
    objective.model.to(training_device())
    before = objective.evaluate()
    context.log(initial_metrics(before), 0)
    with lora.adapters(objective.encoder, settings.lora, objective.new_in_encoder) as parameter_counts:
        trained = train(objective.model, examples, settings, objective, seed=seed, context=context)
    best = trained.epochs[trained.best_epoch - 1]
    if parameter_counts:  # merging the adapters changed the weights slightly: measure the published ones
        best = {**best, **objective.evaluate()}
    objective.model.cpu()
    objective.save(tokenizer, output / "model", extra_weights)
    metrics = _metrics(settings, texts, examples, trained, before, best)
    metrics |= objective.example_metrics(examples)
    metrics |= {"max_length": max_length, "newly_initialised": objective.new}
    if parameter_counts:
        metrics["parameters"] = parameter_counts
    if extension is not None:
        metrics["vocabulary"] = extension.metrics(before, best)
        extension.write(output)
    trained.write(output, metrics, len(examples))
    return metrics


@dataclass(frozen=True)
class SelectedTexts:
    """Texts of an `adapt` stage."""

    train: ChainedTexts
    held_out: ChainedTexts
    """Texts whose loss selects the best epoch."""
    evaluated_on: str
    """Name of the held-out texts: a split of the job's data, or `corpus`."""
    task: ChainedTexts | None = None
    """Held-out texts of the job's data, if a corpus provides `held_out`."""
    unit: Unit = "document"
    """Unit of text in one example."""
    counts: dict[str, Any] | None = None
    """Metrics of the corpus, if there is one."""


def select_texts(settings: Adapt, data: PreparedData, inputs: dict[str, Path]) -> SelectedTexts:
    """Return the texts that a stage trains on and is evaluated on: those of the job, or of a separate corpus."""
    task = data.splits[data.selection_split].all_texts
    corpus = settings.corpus
    if isinstance(corpus, Corpus):
        folder = inputs["corpus"] / "corpus"
        record = curation.read_record(folder)
        train_passages, held_out = curation.read(folder)
        unit = get_objective(settings.objective).example_unit or corpus.unit
        counts: dict[str, Any] = {"unit": unit, "isolate": corpus.isolate}
        counts |= {name: value for name, value in record.items() if name in _CORPUS_COUNTS}
        return SelectedTexts(
            ChainedTexts([train_passages]),
            ChainedTexts([held_out]),
            "corpus",
            task,
            "isolated" if corpus.isolate else corpus.unit,
            counts,
        )
    splits = ["train"] if corpus == "train" else list(data.splits)
    columns = [column for name in splits for column in data.splits[name].columns]
    return SelectedTexts(ChainedTexts(columns), task, data.selection_split)


def _held_out_examples(
    objective: PretrainingObjective, tokenizer: PreTrainedTokenizerBase, texts: SelectedTexts, max_length: int
) -> dict[str, TextExamples]:
    """Build the held-out examples, by the prefix of their metrics. The task's texts may not suit the objective."""
    held_out = {"": objective.build_examples(tokenizer, texts.held_out, max_length, _EVALUATION_SEED, texts.unit)}
    if texts.task is not None:
        try:
            held_out["task_"] = objective.build_examples(tokenizer, texts.task, max_length, _EVALUATION_SEED)
        except UserError as error:
            LOG.info("not evaluated on the task's texts: %s", error)
    return held_out


def _metrics(
    settings: Adapt,
    texts: SelectedTexts,
    examples: TextExamples,
    trained: TrainOutput,
    before: dict[str, float],
    best: dict[str, Any],
) -> dict[str, Any]:
    """Return counts of the training texts, and metrics before training, of the best epoch and of the last."""
    tokens = len(examples.tokens.input_ids)
    metrics: dict[str, Any] = {
        "texts": examples.texts,
        "tokens": tokens,
        "truncated": examples.tokens.truncated,
        "evaluated_on": texts.evaluated_on,
        "evaluation_texts_also_trained_on": settings.corpus == "all",
        "before": before,
        "best_epoch": trained.best_epoch,
        "best": best,
        "last": trained.epochs[-1],
        **trained.stopping(settings),
    }
    if texts.counts is not None:
        metrics["corpus"] = {**texts.counts, "tokens_seen": tokens * len(trained.epochs)}
    return metrics
