"""The one training loop, on accelerate: any objective, any examples, one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ftjobs.data.examples.batching import Batch
from ftjobs.errors import FtjobsError
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system import signals
from ftjobs.system.progress import LOG, track
from ftjobs.training.layerwise import LayerwiseTraining
from ftjobs.training.output import TrainOutput
from ftjobs.training.speedups.allocator import retain_freed_memory
from ftjobs.training.speedups.attention import bf16_attention
from ftjobs.training.speedups.dropout import fast_masks
from ftjobs.training.speedups.sparse_embeddings import in_place_embedding_gradients
from ftjobs.training.state import Checkpointer, TrainerState
from ftjobs.training.stepping import Examples, Items, Stepper, accelerator_of


def train(
    model: Any,
    examples: Examples,
    settings: TrainingFields,
    *,
    seed: int,
    loss: Callable[[nn.Module, Batch], torch.Tensor],
    evaluate: Callable[[], dict[str, float]],
    score: Callable[[dict[str, float]], float],
    training_mode: Callable[[], None] | None = None,
    tuning: LayerwiseTraining | None = None,
    items: Callable[[Batch], Items] = lambda batch: len(batch.labels),
    on_step: Callable[[int, torch.Tensor, float], None] | None = None,
    on_epoch: Callable[[int, dict[str, Any], float], None] | None = None,
    checkpointer: Checkpointer | None = None,
    title: str = "training",
) -> TrainOutput:
    """Train `model` in place, evaluate after every epoch, and leave it with the weights of the best one.

    The loss of a step is the mean over all its items (examples, or masked tokens), weighted if they have weights,
    whatever their division into forward passes and processes; so gradient accumulation and data parallelism change
    nothing but rounding. An objective with several losses has the sum of their means, each over its own items.

    Args:
        model: a transformers model; moved to the device.
        examples: the training set.
        settings: epochs, batch size, optimizer and schedule.
        seed: of the order of examples and of dropout.
        loss: summed loss of a batch: scalar, or (L,) for L losses.
        evaluate: metrics of the model as it is now, outside of autocast; may leave it in eval mode.
        score: higher is better; the first best epoch wins.
        training_mode: puts the model into training mode before every epoch; `model.train` unless given.
        tuning: which layers are trained from which epoch on, and how fast; all parameters that require gradients,
            alike, unless given.
        items: what a batch counts for in the mean of a step: the number of its labels, unless they are weighted; for
            several losses, what it counts for in each.
        on_step: called after each optimizer step with its number (from 1), mean loss (on the device) and learning rate.
        on_epoch: called after each evaluation with the step, the epoch's record, as in `TrainOutput.epochs`, and the
            examples per second that its training steps went through.
        keeper: where training state is kept, and found again by a new attempt.
        title: what the progress display calls it.

    Raises:
        FtjobsError: the training loss or the score is not finite.
        Stopped: SIGTERM; training state is saved.
    """
    accelerator = accelerator_of(settings, tuning)
    stepper = Stepper(accelerator, model, examples, settings, loss, items, tuning)
    total = settings.epochs * stepper.steps_per_epoch
    at, best = stepper.resume(checkpointer.latest() if checkpointer else None)

    def save(wait: bool) -> None:
        if checkpointer and accelerator.is_main_process:
            checkpointer.save(stepper.capture(at, best).write, at.step, total, wait=wait)

    try:
        with signals.errors_as_stopped(), _at_full_speed(model), track(title, total) as advance:
            advance(at.step, "")
            while at.epoch <= settings.epochs and not at.has_waited(settings.early_stopping):
                (training_mode or model.train)()
                if tuning:
                    tuning.begin(at.epoch, stepper.trained)
                steps_before, seconds_before = at.step, at.seconds
                for mean_loss, rate in stepper.epoch(at, seed):
                    if on_step:
                        on_step(at.step, mean_loss, rate)
                    advance(1, f"epoch {at.epoch} of {settings.epochs}{_so_far(at)}")
                    if checkpointer and checkpointer.should_save(at.step, total):
                        save(wait=False)
                if not math.isfinite(train_loss := stepper.mean_loss(at)):
                    raise FtjobsError(f"{title}: the loss is {train_loss} in epoch {at.epoch}; lower the learning rate")
                with stepper.full_precision():
                    metrics = stepper.processes.from_main(evaluate() if accelerator.is_main_process else None)
                share = (at.step - steps_before) / stepper.steps_per_epoch  # the rest was in an earlier attempt
                speed = share * len(examples) / max(at.seconds - seconds_before, 1e-9)
                if math.isnan(value := score(metrics)):
                    raise FtjobsError(f"{title}: the score is nan in epoch {at.epoch}; lower the learning rate")
                with signals.deferred():  # either the epoch is over or it is not
                    if at.end_epoch({"epoch": at.epoch, "train_loss": train_loss, **metrics}, value):
                        best = {name: parameter.detach().clone() for name, parameter in stepper.trained.items()}
                if on_epoch:
                    on_epoch(at.step, at.epochs[-1], speed)
    except signals.Stopped:
        save(wait=True)
        raise
    if len(at.epochs) < settings.epochs:
        LOG.info("stopped after epoch %d of %d, epoch %d is the best", len(at.epochs), settings.epochs, at.best_epoch)
    stepper.unwrap()
    model.load_state_dict(best, strict=False)
    return TrainOutput(
        device=str(accelerator.device.type),
        mixed_precision=accelerator.mixed_precision,
        processes=accelerator.num_processes,
        steps_per_epoch=stepper.steps_per_epoch,
        steps=at.steps,
        epochs=at.epochs,
        best_epoch=at.best_epoch,
        seconds=at.seconds,
    )


@contextmanager
def _at_full_speed(model: nn.Module) -> Iterator[None]:
    """Within the block, what a CPU does in a step is done without waste, and is the same."""
    with retain_freed_memory(), fast_masks(), bf16_attention(), in_place_embedding_gradients(model):
        yield


def _so_far(at: TrainerState) -> str:
    """What the progress display says about the epochs that are over."""
    return f", loss {at.epochs[-1]['train_loss']:.4f}, best epoch {at.best_epoch}" if at.epochs else ""
