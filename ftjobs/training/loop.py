"""The one training loop, on accelerate: any objective, any examples, one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import AutocastKwargs, set_seed
from torch import nn

from ftjobs.data.batching import Batch, epoch_order, steps_per_epoch, windows
from ftjobs.errors import FtjobsError
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.progress import track
from ftjobs.training.optimization import adamw, precision, schedule


class Examples(Protocol):
    """What the loop needs of a training set."""

    def __len__(self) -> int: ...

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices`, as they are in `epoch`."""


@dataclass
class Trained:
    """What came out of training; the model itself holds the weights of the best epoch."""

    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Per epoch: `epoch` (from 1), `train_loss` (mean per item), and the evaluation's metrics."""
    best_epoch: int = 0
    seconds: float = 0.0
    """Wall time in training steps, evaluation excluded."""
    device: str = ""
    mixed_precision: str = ""
    processes: int = 1

    def timing(self, examples: int) -> dict[str, Any]:
        """How long training took, and on what. Measured, so kept apart from what must be reproducible."""
        return {
            "train_seconds": self.seconds,
            "examples_per_second": examples * len(self.epochs) / self.seconds if self.seconds else 0.0,
            "device": self.device,
            "mixed_precision": self.mixed_precision,
            "processes": self.processes,
        }


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
    on_step: Callable[[int, torch.Tensor, float], None] | None = None,
    title: str = "training",
) -> Trained:
    """Train `model` in place, evaluate after every epoch, and leave it with the weights of the best one.

    The loss of a step is the mean over all its items (examples, or masked tokens), whatever their division into
    forward passes and processes; so gradient accumulation and data parallelism change nothing but rounding.

    Args:
        model: a transformers model; moved to the device.
        examples: the training set.
        settings: epochs, batch size, optimizer and schedule.
        seed: of the order of examples and of dropout.
        loss: summed loss of a batch.
        evaluate: metrics of the model as it is now; called in eval mode, outside of autocast.
        score: higher is better; the first best epoch wins.
        training_mode: puts the model into training mode before every epoch; `model.train` unless given.
        on_step: called after each optimizer step with its number (from 1), mean loss (on the device) and learning rate.
        title: what the progress display calls it.

    Raises:
        FtjobsError: the loss is not finite.
    """
    accelerator = _accelerator(settings)
    world, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    optimizer = adamw(model, settings)
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    per_step = settings.per_device_batch_size * settings.gradient_accumulation_steps * world
    steps = steps_per_epoch(len(examples), per_step)
    # Not prepared: accelerate would advance it once per process and step, and the rate would fall `world` times faster.
    rates = schedule(optimizer, settings, settings.epochs * steps)
    set_seed(seed, device_specific=world > 1)

    result = Trained(device=str(device.type), mixed_precision=accelerator.mixed_precision, processes=world)
    best: dict[str, torch.Tensor] = {}
    best_score = -math.inf
    step = 0
    with track(title, settings.epochs * steps) as advance:
        for epoch in range(1, settings.epochs + 1):
            started = perf_counter()
            (training_mode or model.train)()
            loss_sum = torch.zeros((), device=device, dtype=torch.float64 if device.type == "cpu" else torch.float32)
            items_sum = 0
            order = epoch_order(len(examples), seed, epoch)
            for window in windows(
                order, settings.per_device_batch_size, settings.gradient_accumulation_steps, rank, world
            ):
                batches = [examples.batch(indices, epoch) for indices in window]
                items = _total(accelerator, sum(len(batch.labels) for batch in batches))
                step_loss = torch.zeros((), device=device)
                for batch, last in _mark_last(batches):
                    with _no_sync_unless(last, accelerator, wrapped):
                        with accelerator.autocast(AutocastKwargs(enabled=True)):
                            summed = loss(wrapped, batch.to(device)) / max(items, 1)
                        accelerator.backward(summed * world)  # processes average their gradients; undo that
                    step_loss += summed.detach()
                if settings.max_grad_norm:
                    accelerator.clip_grad_norm_(wrapped.parameters(), settings.max_grad_norm)
                optimizer.step()
                rate = rates.get_last_lr()[0]
                if not accelerator.optimizer_step_was_skipped:  # fp16: the scaler met an overflow
                    rates.step()
                optimizer.zero_grad()
                step += 1
                step_loss = accelerator.reduce(step_loss, "sum") if world > 1 else step_loss
                loss_sum += step_loss * items
                items_sum += items
                if on_step:
                    on_step(step, step_loss, rate)
                advance(1, f"epoch {epoch} of {settings.epochs}")
            train_loss = float(loss_sum) / max(items_sum, 1)
            result.seconds += perf_counter() - started
            if not math.isfinite(train_loss):
                raise FtjobsError(f"{title}: the loss is {train_loss} in epoch {epoch}; lower the learning rate")
            model.eval()
            metrics = evaluate() if accelerator.is_main_process else {}
            result.epochs.append({"epoch": epoch, "train_loss": train_loss, **metrics})
            if accelerator.is_main_process and score(metrics) > best_score:
                best_score, result.best_epoch = score(metrics), epoch
                best = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            accelerator.wait_for_everyone()
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.load_state_dict(best, strict=False)
    return result


def training_device() -> torch.device:
    """The device that training uses on this machine."""
    return PartialState().device


def _accelerator(settings: TrainingFields) -> Accelerator:
    """An accelerator in the precision of this stage; autocast is off in `forward`, so that evaluation is in fp32."""
    AcceleratorState._reset_state()  # one process may run stages of different precision in turn
    chosen = precision(settings.mixed_precision, PartialState().device)
    return Accelerator(mixed_precision=chosen, kwargs_handlers=[AutocastKwargs(enabled=False)])


def _total(accelerator: Accelerator, items: int) -> int:
    if accelerator.num_processes == 1:
        return items
    return int(accelerator.reduce(torch.tensor(items, device=accelerator.device), "sum"))


def _mark_last(batches: list[Batch]) -> Iterator[tuple[Batch, bool]]:
    for index, batch in enumerate(batches):
        yield batch, index == len(batches) - 1


def _no_sync_unless(last: bool, accelerator: Accelerator, model: nn.Module) -> AbstractContextManager[Any]:
    """Processes exchange gradients only in the last backward pass of a step."""
    return nullcontext() if last else accelerator.no_sync(model)
