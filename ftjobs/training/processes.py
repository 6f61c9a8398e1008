"""What the processes of a data-parallel run tell each other beside gradients; over the CPU, so no GPU waits for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from accelerate import Accelerator
from torch import distributed

#: The main process evaluates while the others wait for what came out.
_PATIENCE = timedelta(hours=6)


class Processes:
    """The processes of one run; nothing is sent where there is only one."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.count, self.rank = accelerator.num_processes, accelerator.process_index
        self._group = distributed.new_group(backend="gloo", timeout=_PATIENCE) if self.count > 1 else None

    def before_step(self, items: list[float], stop: bool) -> tuple[list[float], bool]:
        """The items of all processes in the coming step, and whether any of them is to stop: then all do.

        Args:
            items: of this process, for each loss that the step is made of.
            stop: whether this process is to stop.
        """
        if self._group is None:
            return items, stop
        message = torch.tensor([*items, stop], dtype=torch.float64)
        distributed.all_reduce(message, group=self._group)
        return message[:-1].tolist(), bool(message[-1])

    def from_main(self, value: Any) -> Any:
        """What the main process gave; what others gave is ignored."""
        if self._group is None:
            return value
        holder = [value]
        distributed.broadcast_object_list(holder, src=0, group=self._group)
        return holder[0]
