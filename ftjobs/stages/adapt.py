"""`adapt`: go on pretraining the encoder on the domain's texts by masked language modelling."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from ftjobs.data import prepared, units
from ftjobs.data.batching import MaskedExamples
from ftjobs.data.packed import PackedExamples
from ftjobs.data.units import Unit
from ftjobs.device import training_device
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints, heads
from ftjobs.models.isolation import isolate
from ftjobs.progress import LOG
from ftjobs.stages.learned import learned
from ftjobs.training import evaluation, lora, memory
from ftjobs.training.loop import train
from ftjobs.training.objectives import MaskedLM
from ftjobs.training.session import Session

#: Held-out texts are masked by this seed in every stage, so that their losses can be compared.
_EVALUATION_SEED = 0


def run(settings: Adapt, seed: int, inputs: dict[str, Path], output: Path, session: Session) -> dict[str, Any]:
    """Adapt the encoder of `inputs["encoder"]` to the texts of `inputs["prepare"]`, or of `inputs["corpus"]`.

    Writes `model/` (the encoder with every weight of its input, and its masked-LM head), `metrics.json` (every epoch),
    `metrics.jsonl` (also every tenth step) and `timing.json`.

    Raises:
        UserError: the encoder cannot be trained by masked language modelling.
    """
    memory.start_over()
    data = prepared.read(inputs["prepare"] / "data")
    folder = inputs["encoder"] / "model"
    tokenizer = checkpoints.load_tokenizer(folder)
    if tokenizer.mask_token_id is None:
        raise UserError(
            "objective: mlm needs a mask token, and the encoder's tokenizer has none; choose another encoder"
        )
    set_seed(seed)
    model, new = heads.load_masked_lm(folder)
    if new:
        LOG.info("newly initialised, because the checkpoint has none: %s", heads.new_modules(new))
    beyond = heads.weights_beyond(model, folder)
    limit = checkpoints.longest_input(model, tokenizer, settings.max_length)

    texts = learned(settings, data, inputs)

    def masked(documents: Iterable[str], mask_seed: int, unit: Unit = "document") -> MaskedExamples | PackedExamples:
        how = partial(
            MaskedExamples,
            seed=mask_seed,
            probability=settings.mlm_probability,
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            masking=settings.masking,
            replace=settings.replace,
        )
        words = settings.masking != "token"
        return units.examples(documents, unit, tokenizer, limit, how, seed=mask_seed, words=words)

    examples = masked(texts.train, seed, texts.unit)
    held_out = masked(texts.held_out, _EVALUATION_SEED, texts.unit)
    task = None if texts.task is None else masked(texts.task, _EVALUATION_SEED)
    tokens = int(examples.lengths.sum())
    LOG.info(
        "adapting on %d texts of %d tokens, %d cut to %d; evaluating on %d %s texts",
        len(examples), tokens, examples.tokens.truncated, limit, len(held_out), texts.evaluated_on,
    )  # fmt: skip
    if texts.unit == "isolated":
        isolate(model)
    objective = MaskedLM(model)

    def evaluate() -> dict[str, float]:
        if task is None:
            return evaluation.masked_lm(model, objective, held_out)
        found = evaluation.masked_lm(model, objective, held_out, settings.per_device_batch_size)
        return found | {f"task_{name}": one for name, one in evaluation.masked_lm(model, objective, task).items()}

    model.to(training_device())
    before = evaluate()
    session.log_before(before)
    with lora.adapters(model, settings.lora, new) as adapted:
        trained = train(
            model,
            examples,
            settings,
            seed=seed,
            loss=objective.loss,
            evaluate=evaluate,
            score=lambda metrics: -metrics["loss"],
            keeper=session.keeper,
            on_step=session.log_step,
            on_epoch=session.log_epoch,
            title="adapt",
        )
    best = trained.epochs[trained.best_epoch - 1]
    if adapted:  # the adapters are part of the weights now: measured is what is published
        best = {**best, **evaluate()}
    heads.save(model.cpu(), tokenizer, output / "model", beyond)
    metrics = {
        "texts": len(examples),
        "tokens": tokens,
        "truncated": examples.tokens.truncated,
        "max_length": limit,
        "newly_initialised": new,
        "evaluated_on": texts.evaluated_on,
        "evaluation_texts_also_trained_on": settings.corpus == "all",
        "before": before,
        "best_epoch": trained.best_epoch,
        "best": best,
        "last": trained.epochs[-1],
        **trained.stopping(settings),
        **({"corpus": texts.counts | {"tokens_seen": tokens * len(trained.epochs)}} if texts.counts else {}),
        **({"parameters": adapted} if adapted else {}),
    }
    trained.write(output, metrics, len(examples))
    return metrics
