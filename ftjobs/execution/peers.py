"""What a machine knows of the others that run a stage with it: their signs of life in storage.

A process whose machine vanished without a word leaves the others waiting for it, for hours where they wait for an
evaluation; and one that begins anew finds them in the middle of what it knows nothing of. So each machine looks at the
signs of the others, and ends where one is lost, to begin again together. Nobody's clock is compared with another's: a
machine is there as long as its signs change.
"""

from __future__ import annotations

import time

from ftjobs import artifacts
from ftjobs.errors import FtjobsError, PeerLost
from ftjobs.execution.heartbeat import attempt_seconds
from ftjobs.execution.topology import Topology
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.progress import LOG

#: A machine that is new in a cluster may have to be started first.
SECONDS_TO_COME = 600.0
#: A store may be out of a machine's reach for a while, which is no reason to lose what was computed.
SECONDS_OF_SILENCE = 300.0
SECONDS_BETWEEN_LOOKS = 5.0


class Peers:
    """Those that a machine depends on: the first on all others, which have the first in common."""

    def __init__(self, storage: Storage, run: StageRun, machines: Topology) -> None:
        self.storage, self.run = storage, run
        ranks = range(1, machines.machines) if machines.is_main else range(1)
        self._machines = [_Machine(storage, run, rank) for rank in ranks]
        self._looked_at = time.monotonic()

    def look(self) -> None:
        """Ask storage for their newest signs, every few seconds at most.

        Raises:
            OtherMachineLost: one that was there has ended, has begun anew, or was silent for too long.
        """
        if time.monotonic() - self._looked_at >= SECONDS_BETWEEN_LOOKS:
            for machine in self._machines:
                machine.look()
            self._looked_at = time.monotonic()

    def wait_until_there(self) -> None:
        """Return when all give signs of life.

        Raises:
            OtherMachineLost: one did not come.
        """
        if self._machines:
            LOG.info("%s: waiting for %s", self.run.title, ", ".join(machine.name for machine in self._machines))
        end = time.monotonic() + SECONDS_TO_COME
        while missing := [machine for machine in self._machines if not machine.is_there]:
            if time.monotonic() > end:
                raise PeerLost(f"{self.run.title}: {missing[0].name} did not come within {SECONDS_TO_COME:.0f} s")
            time.sleep(min(1.0, SECONDS_BETWEEN_LOOKS))
            self.look()

    def wait_until_published(self) -> None:
        """Return when the first machine has published: until then its next attempt would need this one again.

        Raises:
            OtherMachineLost: it will not.
        """
        while artifacts.find(self.storage, self.run) is None:
            self.look()
            time.sleep(SECONDS_BETWEEN_LOOKS)


class _Machine:
    """One of them. What an earlier attempt has left may lie there still, so the first that is read says nothing."""

    def __init__(self, storage: Storage, run: StageRun, rank: int) -> None:
        self.name = f"machine {rank}"
        self.is_there = False
        self._storage, self._run, self._rank = storage, run, rank
        self._newest: float | None = None
        self._heard_at = time.monotonic()
        self._newest = self._read()

    def look(self) -> None:
        found, before = self._read(), self._newest
        if found == before:
            if self.is_there and time.monotonic() - self._heard_at > SECONDS_OF_SILENCE:
                raise self._lost(f"gives no sign of life for {SECONDS_OF_SILENCE:.0f} s")
            return
        if self.is_there and found is None:
            raise self._lost("has ended")
        if self.is_there and before is not None and found is not None and found < before:
            raise self._lost("has begun anew")
        self.is_there = found is not None
        self._newest, self._heard_at = found, time.monotonic()

    def _read(self) -> float | None:
        """Seconds that its attempt runs for; a store that is down tells nothing of a machine."""
        try:
            return attempt_seconds(self._storage, self._run, self._rank)
        except FtjobsError:
            self._heard_at = time.monotonic()
            return self._newest

    def _lost(self, how: str) -> PeerLost:
        return PeerLost(f"{self._run.title}: {self.name} {how}; all machines begin again from the newest state")
