"""How many processes, on how many machines, run one stage together."""

from __future__ import annotations

from dataclasses import dataclass

from ftjobs.errors import UserError


@dataclass(frozen=True)
class Topology:
    """What this machine is told of the others; each is told the same but for its rank."""

    processes: int = 1
    """In all, one per GPU, the same number on every machine."""
    machines: int = 1
    rank: int = 0
    """Of this machine, from 0."""
    address: str | None = None
    """Where the machine of rank 0 is reached."""
    port: int = 29500
    """On that machine; free."""

    def __post_init__(self) -> None:
        if self.processes < 1 or self.machines < 1 or self.processes % self.machines:
            raise UserError(
                f"--num-processes {self.processes} --num-machines {self.machines}: give the number of processes on all "
                "machines together, a multiple of the number of machines"
            )
        if not 0 <= self.rank < self.machines:
            raise UserError(f"--machine-rank {self.rank}: is none of the {self.machines} machines, which count from 0")
        if self.machines > 1 and not self.address:
            raise UserError("--num-machines: several machines need --main-address, where the machine of rank 0 is")

    @property
    def alone(self) -> bool:
        """Whether one process runs the stage."""
        return self.processes == 1

    @property
    def is_main(self) -> bool:
        """Whether this machine publishes."""
        return self.rank == 0


ALONE = Topology()
