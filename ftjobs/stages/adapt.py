"""`adapt`: go on pretraining the encoder on the domain's texts by masked language modelling."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from accelerate.utils import set_seed

from ftjobs.data import prepared
from ftjobs.data.batching import MaskedExamples
from ftjobs.data.tokenization import tokenize
from ftjobs.device import training_device
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt
from ftjobs.models import checkpoints, heads
from ftjobs.progress import LOG
from ftjobs.training import evaluation, memory
from ftjobs.training.loop import train
from ftjobs.training.objectives import MaskedLM
from ftjobs.training.session import Session

#: Held-out texts are masked by this seed in every stage, so that their losses can be compared.
_EVALUATION_SEED = 0


def run(settings: Adapt, seed: int, inputs: dict[str, Path], output: Path, session: Session) -> dict[str, Any]:
    """Adapt the encoder of `inputs["encoder"]` to the texts of `inputs["prepare"]`.

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

    def masked(texts: Iterable[str], mask_seed: int) -> MaskedExamples:
        tokens = tokenize(tokenizer, texts, None, limit, words=settings.masking != "token")
        return MaskedExamples(
            tokens=tokens,
            seed=mask_seed,
            probability=settings.mlm_probability,
            mask_token_id=tokenizer.mask_token_id,
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            masking=settings.masking,
            replace=settings.replace,
        )

    trained_splits = ["train"] if settings.corpus == "train" else list(data.splits)
    examples = masked(chain.from_iterable(data.splits[name].sentences for name in trained_splits), seed)
    held_out = masked(data.splits[data.selection_split].sentences, _EVALUATION_SEED)
    LOG.info(
        "adapting on %d texts of %d tokens, %d cut to %d; evaluating on %d %s texts",
        len(examples), len(examples.tokens.input_ids), examples.tokens.truncated, limit, len(held_out),
        data.selection_split,
    )  # fmt: skip
    objective = MaskedLM(model)
    model.to(training_device())
    before = evaluation.masked_lm(model, objective, held_out)
    session.log_before(before)
    trained = train(
        model,
        examples,
        settings,
        seed=seed,
        loss=objective.loss,
        evaluate=lambda: evaluation.masked_lm(model, objective, held_out),
        score=lambda metrics: -metrics["loss"],
        keeper=session.keeper,
        on_step=session.log_step,
        on_epoch=session.log_epoch,
        title="adapt",
    )
    heads.save(model.cpu(), tokenizer, output / "model", beyond)
    metrics = {
        "texts": len(examples),
        "tokens": len(examples.tokens.input_ids),
        "truncated": examples.tokens.truncated,
        "max_length": limit,
        "newly_initialised": new,
        "evaluated_on": data.selection_split,
        "evaluation_texts_also_trained_on": settings.corpus == "all",
        "before": before,
        "best_epoch": trained.best_epoch,
        "best": trained.epochs[trained.best_epoch - 1],
        "last": trained.epochs[-1],
        **trained.stopping(settings),
    }
    trained.write(output, metrics, len(examples))
    return metrics
