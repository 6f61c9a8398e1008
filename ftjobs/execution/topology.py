"""The processes and nodes that run one stage together."""

from __future__ import annotations

from dataclasses import dataclass

from ftjobs.errors import UserError


@dataclass(frozen=True)
class Topology:
    """Number of processes and nodes, and the rank of this node. All nodes agree on everything but the rank.

    Raises:
        UserError: the numbers contradict each other, or the address is missing.
    """

    processes: int = 1
    """Processes on all nodes together, one per GPU; every node runs the same number."""
    nodes: int = 1
    rank: int = 0
    """Rank of this node, counted from 0. The node of rank 0 publishes."""
    address: str | None = None
    """Host name or IP address of the node of rank 0."""
    port: int = 29500
    """A free port on the node of rank 0."""

    def __post_init__(self) -> None:
        if self.processes < 1 or self.nodes < 1 or self.processes % self.nodes:
            raise UserError(
                f"--num-processes {self.processes} --num-machines {self.nodes}: the total number of processes must be "
                "a multiple of the number of machines; change one of the two"
            )
        if not 0 <= self.rank < self.nodes:
            raise UserError(
                f"--machine-rank {self.rank}: out of range for {self.nodes} machines; give a rank from 0 to "
                f"{self.nodes - 1}"
            )
        if self.nodes > 1 and not self.address:
            raise UserError(
                f"--num-machines {self.nodes}: several machines need --main-address; give the host name of the machine "
                "of rank 0"
            )

    @property
    def is_single_process(self) -> bool:
        """True if one process runs the stage, without accelerate's launcher."""
        return self.processes == 1

    @property
    def is_main(self) -> bool:
        """True on the node that publishes."""
        return self.rank == 0


SINGLE_PROCESS = Topology()
