"""Optimizer steps, independent of their division into forward passes and processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import distributed, nn

from ftjobs.data.examples.batching import Batch, accumulation_windows, epoch_order, steps_per_epoch
from ftjobs.errors import TryLater
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system import signals
from ftjobs.system.progress import LOG
from ftjobs.training.layerwise import LayerwiseTraining
from ftjobs.training.objective import Examples, Items, TrainingObjective
from ftjobs.training.optimization import build_lr_scheduler, build_optimizer
from ftjobs.training.output import LOGGING_STEPS
from ftjobs.training.state import Snapshot, TrainerState, capture, restore

#: Timeout of messages between processes: the others wait while the main process evaluates.
_MESSAGE_TIMEOUT = timedelta(hours=6)


class Stepper:
    """Take optimizer steps: forward and backward passes, gradient clipping, update, learning-rate schedule."""

    def __init__(
        self,
        accelerator: Accelerator,
        model: Any,
        examples: Examples,
        settings: TrainingFields,
        objective: TrainingObjective,
        layerwise: LayerwiseTraining | None,
    ) -> None:
        self.accelerator, self.examples, self.settings = accelerator, examples, settings
        self.objective = objective
        #: Parameters that are trained in any epoch, by name.
        self.trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        factor = {"lr_factor": layerwise.lr_factor} if layerwise else {}
        optimizer = build_optimizer(model, settings, **factor)
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        self.processes = ProcessGroup(accelerator)
        self.epoch_loss = torch.zeros(())
        per_device = settings.per_device_batch_size * settings.gradient_accumulation_steps
        self.global_batch_size = per_device * accelerator.num_processes
        self.steps_per_epoch = steps_per_epoch(len(examples), self.global_batch_size)
        # Not prepared: accelerate would advance the schedule once per process in every step.
        self.lr_scheduler = build_lr_scheduler(optimizer, settings, settings.epochs * self.steps_per_epoch)

    def epoch(self, state: TrainerState, seed: int) -> Iterator[tuple[torch.Tensor, float]]:
        """Take the remaining steps of the current epoch and update `state`. Yields mean loss and learning rate.

        All processes stop before the same step: a process that stopped alone would block the others.
        """
        processes, settings = self.processes, self.settings
        self.epoch_loss = torch.tensor(state.losses, device=self.accelerator.device)  # on the device: no read-back
        order = epoch_order(self.examples.lengths, seed, state.epoch, self.global_batch_size)
        steps = accumulation_windows(
            order,
            settings.per_device_batch_size,
            settings.gradient_accumulation_steps,
            processes.rank,
            processes.world_size,
        )
        with signals.deferred() if processes.world_size > 1 else nullcontext():
            for window in islice(steps, state.steps_in_epoch, None):
                started = perf_counter()
                with signals.deferred():
                    # Encoders accept no empty batch, so a process without examples in the last step of an epoch
                    # computes a batch whose loss is multiplied by 0.
                    idle = not len(window[0])
                    batches = [self.examples.batch(order[:1] if idle else indices, state.epoch) for indices in window]
                    local_items = _sum_items([self.objective.num_items(batch) for batch in batches], idle)
                    items, stop = processes.reduce_step(local_items, signals.requested())
                    if stop:
                        raise signals.Stopped
                    _seed_step(seed, state.step, processes.rank)
                    mean_loss, learning_rate = self.step(batches, items, idle)
                    self.epoch_loss += mean_loss * items[0]
                    state.items += items[0]
                    state.step += 1
                    state.steps_in_epoch += 1
                    if state.step % LOGGING_STEPS == 0:  # in the state, so that resuming repeats and skips no step
                        state.steps.append((state.step, float(mean_loss), learning_rate))
                    state.seconds += perf_counter() - started
                yield mean_loss, learning_rate

    def mean_loss(self, state: TrainerState) -> float:
        """Return the mean loss per item of the current epoch; with several losses, steps are weighted by the items of
        the first."""
        return float(self.epoch_loss) / (state.items or 1)

    def step(self, batches: list[Batch], items: list[float], idle: bool = False) -> tuple[torch.Tensor, float]:
        """Take one optimizer step.

        Args:
            batches: one per forward pass of this process.
            items: loss denominators of the step over all processes, one per loss.
            idle: whether this process has no examples in this step; its batches do not count then.

        Returns:
            The mean loss of the step (scalar, on the device) and its learning rate.
        """
        accelerator = self.accelerator
        mean_loss = torch.zeros((), device=accelerator.device)
        for index, batch in enumerate(batches):
            last = index == len(batches) - 1  # gradients are exchanged in the last pass only
            with nullcontext() if last else accelerator.no_sync(self.model):
                share = _mean(self.objective.loss(self.model, batch.to(accelerator.device)), items)
                share = share * 0 if idle else share
                accelerator.backward(share * accelerator.num_processes)  # gradients are averaged over processes
            mean_loss += share.detach()
        if self.settings.max_grad_norm:
            accelerator.clip_grad_norm_(self.model.parameters(), self.settings.max_grad_norm)
        self.optimizer.step()
        learning_rate = float(self.lr_scheduler.get_last_lr()[0])
        if not accelerator.optimizer_step_was_skipped:  # fp16: gradients overflowed
            self.lr_scheduler.step()
        self.optimizer.zero_grad()
        if accelerator.num_processes > 1:
            mean_loss = accelerator.reduce(mean_loss, "sum")
        return mean_loss, learning_rate

    @contextmanager
    def full_precision(self) -> Iterator[None]:
        """Within the block, the model computes in fp32, so metrics are those of the published checkpoint.

        Accelerate's autocast is an instance attribute that shadows the class's `forward`; it is removed and restored.
        """
        model = self._unwrapped
        autocast = model.__dict__.pop("forward", None)
        try:
            yield
        finally:
            if autocast is not None:
                model.forward = autocast

    def capture(self, state: TrainerState, best: dict[str, torch.Tensor]) -> Snapshot:
        """Return a copy of the training state."""
        if state.items:
            state.losses = float(self.epoch_loss)
        return capture(self.trained, self.optimizer, self.lr_scheduler, self.accelerator.scaler, state, best)

    def resume(self, folder: Path | None) -> tuple[TrainerState, dict[str, torch.Tensor]]:
        """Restore a saved training state, if there is one.

        Args:
            folder: of the saved state; None to start from the beginning.

        Returns:
            The position and recorded metrics, and the weights of the best epoch by name.

        Raises:
            TryLater: the main process, on another node, resumed from a different state.
        """
        state, best = TrainerState(), dict[str, torch.Tensor]()
        if folder is not None:
            snapshot = Snapshot.read(folder)
            state, best = restore(snapshot, self.trained, self.optimizer, self.lr_scheduler, self.accelerator.scaler)
        main_state: TrainerState = self.processes.broadcast_from_main(state)
        if state != main_state:
            raise TryLater(
                f"this node resumed after step {state.step}, the first node after step {main_state.step}; all nodes "
                "restart from the latest training state"
            )
        if folder is not None:
            LOG.info("resuming after step %d of %d", state.step, self.settings.epochs * self.steps_per_epoch)
        return state, best

    @property
    def _unwrapped(self) -> nn.Module:
        model: nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def unwrap(self) -> None:
        """Restore the model's original `forward`."""
        self.accelerator.unwrap_model(self.model, keep_fp32_wrapper=False)


class ProcessGroup:
    """Messages between the processes of a run, over the CPU so no GPU synchronizes. A single process sends none."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.world_size, self.rank = accelerator.num_processes, accelerator.process_index
        self._group = distributed.new_group(backend="gloo", timeout=_MESSAGE_TIMEOUT) if self.world_size > 1 else None

    def reduce_step(self, items: list[float], stop: bool) -> tuple[list[float], bool]:
        """Sum the loss denominators of a step over all processes, and combine their stop requests.

        Args:
            items: loss denominators of this process, one per loss.
            stop: whether this process has been asked to stop.

        Returns:
            The summed denominators, and whether any process has been asked to stop: then all of them stop.
        """
        if self._group is None:
            return items, stop
        message = torch.tensor([*items, stop], dtype=torch.float64)
        distributed.all_reduce(message, group=self._group)
        return message[:-1].tolist(), bool(message[-1])

    def broadcast_from_main(self, value: Any) -> Any:
        """Return the value that the main process passed; values of other processes are ignored."""
        if self._group is None:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, group=self._group)
        return holder[0]


def _sum_items(items: list[Items], idle: bool) -> list[float]:
    """Return the loss denominators summed over passes, one per loss; zeros for an idle process."""
    per_pass = [count if isinstance(count, tuple) else (count,) for count in items]
    return [0 if idle else sum(counts) for counts in zip(*per_pass, strict=True)]


def _mean(losses: torch.Tensor, items: list[float]) -> torch.Tensor:
    """Return the share of a pass in the mean loss of the step: each summed loss over its denominator, added up."""
    if losses.ndim == 0:
        return losses / (items[0] or 1)
    return torch.stack([loss / (count or 1) for loss, count in zip(losses, items, strict=True)]).sum()


def _seed_step(seed: int, step: int, rank: int) -> None:
    """Seed dropout by seed, step and rank, so that a resumed run needs no generator state."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint32)[0]))
