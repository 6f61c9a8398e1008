"""Optimizer steps: what a step is made of, whatever its division into forward passes and processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn

from ftjobs.data.examples.batching import Batch, accumulation_windows, epoch_order, steps_per_epoch
from ftjobs.errors import TryLater
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system import signals
from ftjobs.system.device import on_cpu, training_device
from ftjobs.system.progress import LOG
from ftjobs.training.layerwise import LayerwiseTraining
from ftjobs.training.optimization import build_optimizer, precision, schedule
from ftjobs.training.processes import Processes
from ftjobs.training.records import STEPS_BETWEEN
from ftjobs.training.state import TrainerState, TrainingState, capture, restore

#: What the sum over a batch is divided by; of objectives with several losses, of each.
Items = float | tuple[float, ...]


class Examples(Protocol):
    """What the loop needs of a training set."""

    def __len__(self) -> int: ...

    @property
    def lengths(self) -> np.ndarray:
        """int64 (N,): what a step should have alike, so that little is padded."""

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices`, as they are in `epoch`."""


class Stepper:
    """Takes optimizer steps: forward and backward passes, clipping, update, learning rate."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        examples: Examples,
        settings: TrainingFields,
        loss: Callable[[nn.Module, Batch], torch.Tensor],
        items: Callable[[Batch], Items],
        tuning: LayerwiseTraining | None,
    ) -> None:
        self.accelerator, self.examples, self.settings = accelerator, examples, settings
        self.loss, self.items = loss, items
        #: Parameters that are trained in any epoch, by name.
        self.trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        optimizer = build_optimizer(model, settings, tuning.factor) if tuning else build_optimizer(model, settings)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.processes = Processes(accelerator)
        self.losses = torch.zeros(())
        per_device = settings.per_device_batch_size * settings.gradient_accumulation_steps
        self.global_batch_size = per_device * accelerator.num_processes
        self.steps_per_epoch = steps_per_epoch(len(examples), self.global_batch_size)
        # Not prepared: accelerate would advance it once per process, and the rate would fall that many times faster.
        self.rates = schedule(optimizer, settings, settings.epochs * self.steps_per_epoch)

    def epoch(self, at: TrainerState, seed: int) -> Iterator[tuple[torch.Tensor, float]]:
        """Take the remaining steps of an epoch, moving `at` along. Yields each step's mean loss and learning rate.

        Several processes stop together, before a step: one that stopped alone would leave the others waiting for it.
        """
        processes, settings = self.processes, self.settings
        self.losses = torch.tensor(at.losses, device=self.accelerator.device)  # stays there: no wait in an epoch
        order = epoch_order(self.examples.lengths, seed, at.epoch, self.global_batch_size)
        steps = accumulation_windows(
            order,
            settings.per_device_batch_size,
            settings.gradient_accumulation_steps,
            processes.rank,
            processes.count,
        )
        with signals.deferred() if processes.count > 1 else nullcontext():
            for window in islice(steps, at.steps_in_epoch, None):
                started = perf_counter()
                with signals.deferred():
                    # Encoders take no empty batch, so a process without an example in an epoch's last step goes along
                    # with one that does not count.
                    idle = not len(window[0])
                    batches = [self.examples.batch(order[:1] if idle else indices, at.epoch) for indices in window]
                    own_items = _summed([self.items(batch) for batch in batches], idle)
                    items, stop = processes.before_step(own_items, signals.requested())
                    if stop:
                        raise signals.Stopped
                    _seed_step(seed, at.step, processes.rank)
                    mean_loss, rate = self.step(batches, items, idle)
                    self.losses += mean_loss * items[0]
                    at.items += items[0]
                    at.step += 1
                    at.steps_in_epoch += 1
                    if at.step % STEPS_BETWEEN == 0:  # part of the state: a step is logged once, whoever is killed when
                        at.steps.append((at.step, float(mean_loss), rate))
                    at.seconds += perf_counter() - started
                yield mean_loss, rate

    def mean_loss(self, at: TrainerState) -> float:
        """Mean loss per item of the epoch so far; of several losses, steps count by the items of the first."""
        return float(self.losses) / (at.items or 1)

    def step(self, batches: list[Batch], items: list[float], idle: bool = False) -> tuple[torch.Tensor, float]:
        """One step over forward passes with `items` in all processes: mean loss (on the device), learning rate.

        Those of an `idle` process do not count.
        """
        accelerator = self.accelerator
        mean_loss = torch.zeros((), device=accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1  # only then do processes exchange gradients
            with nullcontext() if last else accelerator.no_sync(self.model):
                share = _mean(self.loss(self.model, batch.to(accelerator.device)), items)
                share = share * 0 if idle else share
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
        return mean_loss, rate

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Within the block the bare model computes in fp32: accelerate's autocast, an attribute in the way of the
        class's `forward`, is lifted. So metrics are those that anyone gets who loads the checkpoint."""
        bare = self._bare
        autocast = bare.__dict__.pop("forward", None)
        try:
            yield
        finally:
            if autocast is not None:
                bare.forward = autocast

    def capture(self, at: TrainerState, best: dict[str, torch.Tensor]) -> TrainingState:
        """A copy of all that training has changed."""
        if at.items:
            at.losses = float(self.losses)
        return capture(self.trained, self.optimizer, self.rates, self.accelerator.scaler, at, best)

    def resume(self, saved: Path | None) -> tuple[TrainerState, dict[str, torch.Tensor]]:
        """Put a saved state back, if there is one. Returns where training is, and the weights of the best epoch.

        Raises:
            TryLater: the main process, on another machine, goes on from another state.
        """
        at, best = TrainerState(), dict[str, torch.Tensor]()
        if saved is not None:
            state = TrainingState.read(saved)
            at, best = restore(state, self.trained, self.optimizer, self.rates, self.accelerator.scaler)
        of_main: TrainerState = self.processes.from_main(at)
        if at != of_main:
            raise TryLater(
                f"training goes on after step {at.step} here, and after step {of_main.step} on the first machine; all "
                "machines begin again from the newest state"
            )
        if saved is not None:
            LOG.info("resuming after step %d of %d", at.step, self.settings.epochs * self.steps_per_epoch)
        return at, best

    @property
    def _bare(self) -> nn.Module:
        bare: nn.Module = self.accelerator.unwrap_model(self.model)
        return bare

    def unwrap(self) -> None:
        """Give the model its own `forward` back."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)


def _summed(items: list[Items], idle: bool) -> list[float]:
    """The items of all passes, for each loss; none of an idle process."""
    return [
        0 if idle else sum(those)
        for those in zip(*(one if isinstance(one, tuple) else (one,) for one in items), strict=True)
    ]


def _mean(losses: torch.Tensor, items: list[float]) -> torch.Tensor:
    """What a pass adds to the step's loss: each of its summed losses over the items of the whole step."""
    if losses.ndim == 0:
        return losses / (items[0] or 1)
    return torch.stack([loss / (count or 1) for loss, count in zip(losses, items, strict=True)]).sum()


def _seed_step(seed: int, step: int, process: int) -> None:
    """Make the dropout of a step a function of seed, step and process: a resumed run has no generators to restore."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, process]).generate_state(1, np.uint32)[0]))


def accelerator_of(settings: TrainingFields, tuning: LayerwiseTraining | None) -> Accelerator:
    """An accelerator in the precision of this stage."""
    AcceleratorState._reset_state()  # one process may run stages of different precision in turn
    # Processes would wait for gradients of parameters that are trained in later epochs only.
    waits = [DistributedDataParallelKwargs(find_unused_parameters=True)] if tuning and tuning.changes else None
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=precision(settings.mixed_precision, training_device()),
        kwargs_handlers=waits,
    )
