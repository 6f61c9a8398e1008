"""The training loop, on accelerate: any objective and examples, on one process or several."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from ftjobs.errors import FtjobsError
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system import signals
from ftjobs.system.progress import LOG, track
from ftjobs.training.callbacks import EpochEnd, MetricsLogger, StepEnd, TrainingContext
from ftjobs.training.layerwise import LayerwiseTraining
from ftjobs.training.objective import Examples, TrainingObjective
from ftjobs.training.optimization import build_accelerator
from ftjobs.training.output import TrainOutput
from ftjobs.training.speedups.cpu import bf16_attention, fast_dropout_masks, retain_freed_memory
from ftjobs.training.speedups.sparse_embeddings import in_place_embedding_gradients
from ftjobs.training.state import TrainerState
from ftjobs.training.stepping import Stepper


def train(
    model: Any,
    examples: Examples,
    settings: TrainingFields,
    objective: TrainingObjective,
    *,
    seed: int,
    context: TrainingContext = TrainingContext(),  # noqa: B008 (immutable)
    layerwise: LayerwiseTraining | None = None,
) -> TrainOutput:
    """Train `model` in place, evaluate it after every epoch, and load the weights of the best epoch into it.

    The loss of a step is the mean over all its items (examples, masked tokens, ...), independent of the division into
    forward passes and processes: gradient accumulation and data parallelism change rounding only.

    Args:
        model: a transformers model; moved to the device.
        examples: the training set.
        settings: epochs, batch size, optimizer and schedule.
        objective: loss, evaluation (outside of autocast) and score.
        seed: of the order of examples and of dropout.
        context: checkpointing, metrics logging and callbacks.
        layerwise: schedule and learning rates of layers; without it, all parameters that require gradients are trained
            alike.

    Raises:
        FtjobsError: the training loss is not finite, or the score is nan.
        Stopped: SIGTERM; the training state has been saved.
    """
    accelerator = build_accelerator(settings.mixed_precision, layerwise is not None and layerwise.changes)
    stepper = Stepper(accelerator, model, examples, settings, objective, layerwise)
    total = settings.epochs * stepper.steps_per_epoch
    checkpointer, callbacks = context.checkpointer, (MetricsLogger(context.log), *context.callbacks)
    state, best = stepper.resume(checkpointer.latest() if checkpointer else None)

    def save(wait: bool) -> None:
        if checkpointer and accelerator.is_main_process:
            checkpointer.save(stepper.capture(state, best).write, state.step, total, wait=wait)

    try:
        with signals.errors_as_stopped(), _speedups(model), track(objective.title, total) as advance:
            advance(state.step, "")
            while state.epoch <= settings.epochs and not state.should_stop_early(settings.early_stopping):
                objective.set_training_mode(model)
                if layerwise:
                    layerwise.start_epoch(state.epoch, stepper.trained)
                steps_before, seconds_before = state.step, state.seconds
                for mean_loss, learning_rate in stepper.epoch(state, seed):
                    for callback in callbacks:
                        callback.on_step_end(StepEnd(state.step, mean_loss, learning_rate))
                    advance(1, _progress(state, settings.epochs))
                    if checkpointer and checkpointer.should_save(state.step, total):
                        save(wait=False)
                train_loss = stepper.mean_loss(state)
                metrics, score = _evaluate(stepper, objective, state, train_loss)
                epoch_share = (state.step - steps_before) / stepper.steps_per_epoch  # below 1 in a resumed epoch
                speed = epoch_share * len(examples) / max(state.seconds - seconds_before, 1e-9)
                with signals.deferred():  # a stop comes before the end of the epoch or after it
                    if state.end_epoch({"epoch": state.epoch, "train_loss": train_loss, **metrics}, score):
                        best = {name: parameter.detach().clone() for name, parameter in stepper.trained.items()}
                for callback in callbacks:
                    callback.on_epoch_end(EpochEnd(state.step, state.epochs[-1], speed))
    except signals.Stopped:
        save(wait=True)
        raise
    if len(state.epochs) < settings.epochs:
        LOG.info(
            "stopped early after epoch %d of %d; best epoch %d", len(state.epochs), settings.epochs, state.best_epoch
        )
    stepper.unwrap()
    model.load_state_dict(best, strict=False)
    return TrainOutput(
        device=str(accelerator.device.type),
        mixed_precision=accelerator.mixed_precision,
        processes=accelerator.num_processes,
        steps_per_epoch=stepper.steps_per_epoch,
        steps=state.steps,
        epochs=state.epochs,
        best_epoch=state.best_epoch,
        seconds=state.seconds,
    )


def _evaluate(
    stepper: Stepper, objective: TrainingObjective, state: TrainerState, train_loss: float
) -> tuple[dict[str, Any], float]:
    """Evaluate in the main process and return the metrics and their score, in every process.

    Raises:
        FtjobsError: the training loss is not finite, or the score is nan.
    """
    title, remedy = objective.title, "lower the learning rate"
    if not math.isfinite(train_loss):
        raise FtjobsError(f"{title}: the loss is {train_loss} in epoch {state.epoch}; {remedy}")
    with stepper.full_precision():
        local_metrics = objective.evaluate() if stepper.accelerator.is_main_process else None
        metrics: dict[str, Any] = stepper.processes.broadcast_from_main(local_metrics)
    score = objective.score(metrics)
    if math.isnan(score):
        raise FtjobsError(f"{title}: the score is nan in epoch {state.epoch}; {remedy}")
    return metrics, score


@contextmanager
def _speedups(model: nn.Module) -> Iterator[None]:
    """Within the block, steps on a CPU are faster, with the same results."""
    with retain_freed_memory(), fast_dropout_masks(), bf16_attention(), in_place_embedding_gradients(model):
        yield


def _progress(state: TrainerState, epochs: int) -> str:
    """Return the text of the progress display: current epoch, and loss and best epoch so far."""
    finished = f", loss {state.epochs[-1]['train_loss']:.4f}, best epoch {state.best_epoch}" if state.epochs else ""
    return f"epoch {state.epoch} of {epochs}{finished}"
