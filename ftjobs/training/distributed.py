"""Data parallelism: the accelerator, and messages between processes other than gradients."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import distributed

from ftjobs.system.device import on_cpu, training_device
from ftjobs.training.optimization import resolve_precision

#: Timeout of messages: the other processes wait while the main process evaluates.
_TIMEOUT = timedelta(hours=6)


def build_accelerator(mixed_precision: str, unused_parameters: bool) -> Accelerator:
    """Return an accelerator for one training run.

    Args:
        mixed_precision: as in the job file.
        unused_parameters: whether some parameters are trained in later epochs only. Processes would wait for their
            gradients otherwise.
    """
    AcceleratorState._reset_state()  # one process may run stages of different precision in turn
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=resolve_precision(mixed_precision, training_device()),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if unused_parameters else None,
    )


class ProcessGroup:
    """Messages between the processes of a run, over the CPU so no GPU synchronizes. A single process sends none."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.world_size, self.rank = accelerator.num_processes, accelerator.process_index
        self._group = distributed.new_group(backend="gloo", timeout=_TIMEOUT) if self.world_size > 1 else None

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
