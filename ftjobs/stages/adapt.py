"""`adapt`: go on pretraining the encoder on the domain's texts by the objectives that encoders are pretrained with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from ftjobs.data import prepared
from ftjobs.data.examples.segment_pairs import PairExamples
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints, heads
from ftjobs.models.tokenizer_extension.extension import extend
from ftjobs.objectives import pretraining
from ftjobs.objectives.pretraining import Pretraining, TextExamples
from ftjobs.stages.learned import Learned, learned
from ftjobs.system.device import training_device
from ftjobs.system.progress import LOG
from ftjobs.training import lora, memory
from ftjobs.training.context import TrainingContext
from ftjobs.training.loop import train
from ftjobs.training.output import TrainOutput

#: Held-out texts are masked by this seed in every stage, so that their losses can be compared.
_EVALUATION_SEED = 0


def run(settings: Adapt, seed: int, inputs: dict[str, Path], output: Path, session: TrainingContext) -> dict[str, Any]:
    """Adapt the encoder of `inputs["encoder"]` to the texts of `inputs["prepare"]`, or of `inputs["corpus"]`.

    Writes `model/` (the encoder with every weight of its input, and its masked-LM head), `metrics.json` (every epoch),
    `metrics.jsonl` (also every tenth step), `timing.json`, and `vocabulary.json` (the new words) if there are any.

    Raises:
        UserError: the encoder or the texts cannot serve the objective.
    """
    memory.reset_peak_memory()
    data = prepared.read(inputs["prepare"] / "data")
    folder = inputs["encoder"] / "model"
    tokenizer = _tokenizer(settings, folder)
    set_seed(seed)
    trainee = pretraining.load(settings, folder)
    if trainee.new:
        LOG.info("newly initialised, because the checkpoint has none: %s", heads.new_modules(trainee.new))
    beyond = heads.weights_beyond(trainee.encoder, folder)
    limit = checkpoints.longest_input(trainee.encoder, tokenizer, settings.max_length)
    texts = learned(settings, data, inputs)
    extension = None
    if settings.vocabulary is not None:
        tokenizer, extension = extend(
            trainee.encoder, tokenizer, texts.train, texts.held_out, settings.vocabulary, seed
        )
    examples = pretraining.examples(settings, tokenizer, texts.train, limit, seed, texts.unit)
    held_out = _HeldOut.of(settings, tokenizer, texts, limit)
    if texts.unit == "isolated":
        pretraining.isolate(trainee)
    LOG.info(
        "adapting on %d texts of %d tokens, %d cut to %d; evaluating on %d %s texts",
        examples.texts, len(examples.tokens.input_ids), examples.tokens.truncated, limit, held_out.own.texts,
        texts.evaluated_on,
    )  # fmt: skip
    trainee.model.to(training_device())
    before = held_out.evaluate(trainee)
    session.log_before(before)
    with lora.adapters(trainee.encoder, settings.lora, trainee.new_in_encoder) as adapted:
        trained = train(
            trainee.model,
            examples,
            settings,
            seed=seed,
            loss=trainee.loss,
            items=trainee.items,
            evaluate=lambda: held_out.evaluate(trainee),
            score=trainee.score,
            checkpointer=session.checkpointer,
            on_step=session.log_step,
            on_epoch=session.log_epoch,
            title="adapt",
        )
    best = trained.epochs[trained.best_epoch - 1]
    if adapted:  # the adapters are part of the weights now: measured is what is published
        best = {**best, **held_out.evaluate(trainee)}
    trainee.model.cpu()
    trainee.save(tokenizer, output / "model", beyond)
    metrics = _metrics(settings, texts, examples, trained, before, best)
    metrics |= {"max_length": limit, "newly_initialised": trainee.new}
    if adapted:
        metrics["parameters"] = adapted
    if extension is not None:
        metrics["vocabulary"] = extension.metrics(before, best)
        extension.write(output)
    trained.write(output, metrics, len(examples))
    return metrics


def _tokenizer(settings: Adapt, folder: Path) -> PreTrainedTokenizerBase:
    tokenizer = checkpoints.load_tokenizer(folder)
    if tokenizer.mask_token_id is None:
        raise UserError(
            f"objective: {settings.objective} needs a mask token, and the encoder's tokenizer has none; "
            "choose another encoder"
        )
    return tokenizer


@dataclass(frozen=True)
class _HeldOut:
    """What a stage is measured on."""

    own: TextExamples
    """What the best epoch is chosen on."""
    task: TextExamples | None
    """The task's held-out texts, if others decide, and if the objective can be measured on them."""

    @classmethod
    def of(cls, settings: Adapt, tokenizer: PreTrainedTokenizerBase, texts: Learned, limit: int) -> _HeldOut:
        own = pretraining.examples(settings, tokenizer, texts.held_out, limit, _EVALUATION_SEED, texts.unit)
        task = None
        if texts.task is not None:
            try:
                task = pretraining.examples(settings, tokenizer, texts.task, limit, _EVALUATION_SEED)
            except UserError as error:
                LOG.info("not measured on the task's texts: %s", error)
        return cls(own, task)

    def evaluate(self, trainee: Pretraining) -> dict[str, float]:
        """Metrics of the model as it is now; those on the task's texts as `task_...`."""
        found = trainee.evaluate(self.own)
        beside = {} if self.task is None else trainee.evaluate(self.task)
        return found | {f"task_{name}": value for name, value in beside.items()}


def _metrics(
    settings: Adapt,
    texts: Learned,
    examples: TextExamples,
    trained: TrainOutput,
    before: dict[str, float],
    best: dict[str, Any],
) -> dict[str, Any]:
    """What was learned from, and the figures before training, of the best epoch and of the last."""
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
    if isinstance(examples, PairExamples):
        metrics |= {"pairs": len(examples), "texts_of_one_sentence": examples.single_sentence_documents}
    return metrics
