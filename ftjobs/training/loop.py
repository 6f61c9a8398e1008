"""The one training loop, on accelerate: any objective, any examples, one process or many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import set_seed
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

    device: str
    mixed_precision: str
    processes: int
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Per epoch: `epoch` (from 1), `train_loss` (mean per item), and the evaluation's metrics."""
    best_epoch: int = 0
    seconds: float = 0.0
    """Wall time in training steps, evaluation excluded."""

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
        evaluate: metrics of the model as it is now, outside of autocast; may leave it in eval mode.
        score: higher is better; the first best epoch wins.
        training_mode: puts the model into training mode before every epoch; `model.train` unless given.
        on_step: called after each optimizer step with its number (from 1), mean loss (on the device) and learning rate.
        title: what the progress display calls it.

    Raises:
        FtjobsError: the training loss or the score is not finite.
    """
    accelerator = _accelerator(settings)
    stepper = _Stepper(accelerator, model, examples, settings, loss)
    set_seed(seed, device_specific=accelerator.num_processes > 1)  # each process its own dropout
    result = Trained(str(accelerator.device.type), accelerator.mixed_precision, accelerator.num_processes)
    best: dict[str, torch.Tensor] = {}
    best_score = -math.inf
    step = 0
    so_far = ""
    with track(title, settings.epochs * stepper.steps_per_epoch) as advance:
        for epoch in range(1, settings.epochs + 1):
            started = perf_counter()
            (training_mode or model.train)()
            losses = torch.zeros((), device=accelerator.device)  # stays on the device: no wait for it inside an epoch
            items = 0
            for window in stepper.windows(epoch_order(len(examples), seed, epoch)):
                mean_loss, step_items, rate = stepper.step(window, epoch)
                losses += mean_loss * step_items
                items += step_items
                step += 1
                if on_step:
                    on_step(step, mean_loss, rate)
                advance(1, f"epoch {epoch} of {settings.epochs}{so_far}")
            train_loss = float(losses) / max(items, 1)
            result.seconds += perf_counter() - started
            if not math.isfinite(train_loss):
                raise FtjobsError(f"{title}: the loss is {train_loss} in epoch {epoch}; lower the learning rate")
            if accelerator.is_main_process:
                with stepper.full_precision():
                    metrics = evaluate()
                result.epochs.append({"epoch": epoch, "train_loss": train_loss, **metrics})
                if math.isnan(score(metrics)):
                    raise FtjobsError(f"{title}: the evaluation loss is nan in epoch {epoch}; lower the learning rate")
                if score(metrics) > best_score:
                    best_score, result.best_epoch = score(metrics), epoch
                    best = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
            so_far = f", loss {train_loss:.4f}, best epoch {result.best_epoch}"
            accelerator.wait_for_everyone()
    stepper.unwrap()
    model.load_state_dict(best, strict=False)
    return result


class _Stepper:
    """Takes optimizer steps: forward and backward passes, clipping, update, learning rate."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        examples: Examples,
        settings: TrainingFields,
        loss: Callable[[nn.Module, Batch], torch.Tensor],
    ) -> None:
        self.accelerator, self.examples, self.settings, self.loss = accelerator, examples, settings, loss
        optimizer = adamw(model, settings)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        per_device = settings.per_device_batch_size * settings.gradient_accumulation_steps
        self.steps_per_epoch = steps_per_epoch(len(examples), per_device * accelerator.num_processes)
        # Not prepared: accelerate would advance it once per process, and the rate would fall that many times faster.
        self.rates = schedule(optimizer, settings, settings.epochs * self.steps_per_epoch)

    def windows(self, order: np.ndarray) -> Iterator[list[np.ndarray]]:
        """The forward passes of this process, step by step."""
        accelerator, settings = self.accelerator, self.settings
        return windows(
            order,
            settings.per_device_batch_size,
            settings.gradient_accumulation_steps,
            accelerator.process_index,
            accelerator.num_processes,
        )

    def step(self, window: list[np.ndarray], epoch: int) -> tuple[torch.Tensor, int, float]:
        """One step over the passes of `window`: its mean loss (on the device), its items, its learning rate."""
        accelerator = self.accelerator
        batches = [self.examples.batch(indices, epoch) for indices in window]
        items = self._over_processes(sum(len(batch.labels) for batch in batches))
        mean_loss = torch.zeros((), device=accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1  # only then do processes exchange gradients
            with nullcontext() if last else accelerator.no_sync(self.model):
                share = self.loss(self.model, batch.to(accelerator.device)) / max(items, 1)
                accelerator.backward(share * accelerator.num_processes)  # gradients are averaged over processes
            mean_loss += share.detach()
        if self.settings.max_grad_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        rate = float(self.rates.get_last_lr()[0])
        if not accelerator.optimizer_step_was_skipped:  # fp16: the scaler met an overflow
            self.rates.step()
        self.optimizer.zero_grad()
        if accelerator.num_processes > 1:
            mean_loss = accelerator.reduce(mean_loss, "sum")
        return mean_loss, items, rate

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Within the block the bare model computes in fp32: accelerate's autocast, an attribute in the way of the
        class's `forward`, is lifted. So metrics are those that anyone gets who loads the checkpoint."""
        bare = self.accelerator.unwrap_model(self.model)
        autocast = bare.__dict__.pop("forward", None)
        try:
            yield
        finally:
            if autocast is not None:
                bare.forward = autocast

    def unwrap(self) -> None:
        """Give the model its own `forward` back."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)

    def _over_processes(self, items: int) -> int:
        if self.accelerator.num_processes == 1:
            return items
        return int(self.accelerator.reduce(torch.tensor(items, device=self.accelerator.device), "sum"))


def training_device() -> torch.device:
    """The device that training uses on this machine: its accelerator, or the CPU."""
    device: torch.device = PartialState(cpu=_on_cpu()).device
    return device


def _on_cpu() -> bool:
    return not torch.accelerator.is_available()


def _accelerator(settings: TrainingFields) -> Accelerator:
    """An accelerator in the precision of this stage."""
    AcceleratorState._reset_state()  # one process may run stages of different precision in turn
    return Accelerator(cpu=_on_cpu(), mixed_precision=precision(settings.mixed_precision, training_device()))
