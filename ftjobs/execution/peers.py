"""Detect failed peers through their heartbeats in storage.

When a node disappears, the other nodes of its stage would wait for it in a collective operation, for hours in an
evaluation; when it restarts, it finds them in the middle of an epoch. Each node therefore reads the heartbeats of its
peers and ends with `PeerLost` (exit code 75) when one is lost, so that all restart together from the latest training
state. Clocks of different nodes are never compared: a peer is alive as long as its heartbeats change.
"""

from __future__ import annotations

import time

from ftjobs import artifacts
from ftjobs.errors import FtjobsError, PeerLost
from ftjobs.execution.heartbeat import elapsed_seconds
from ftjobs.execution.topology import Topology
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.system.progress import LOG

#: Time for a peer to start. A cluster may have to provision its node first.
START_TIMEOUT_SECONDS = 600.0
#: Time without a new heartbeat after which a peer is lost. Long, because a peer may be unable to reach the store for a
#: while without any harm to training.
HEARTBEAT_TIMEOUT_SECONDS = 300.0
POLL_INTERVAL_SECONDS = 5.0


class Peers:
    """The peers that a node watches: rank 0 watches all others, which watch rank 0."""

    def __init__(self, storage: Storage, run: StageRun, topology: Topology) -> None:
        self.storage, self.run = storage, run
        ranks = range(1, topology.nodes) if topology.is_main else range(1)
        self._peers = [_Peer(storage, run, rank) for rank in ranks]
        self._checked_at = time.monotonic()

    def check(self) -> None:
        """Read the heartbeats of all peers, at most once every few seconds.

        Raises:
            PeerLost: a peer that was alive has ended, has restarted, or has sent no heartbeat for too long.
        """
        if time.monotonic() - self._checked_at >= POLL_INTERVAL_SECONDS:
            for peer in self._peers:
                peer.check()
            self._checked_at = time.monotonic()

    def wait_until_alive(self) -> None:
        """Wait for a heartbeat of every peer.

        Raises:
            PeerLost: a peer did not start in time.
        """
        if self._peers:
            LOG.info("%s: waiting for %s", self.run.title, ", ".join(peer.name for peer in self._peers))
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while missing := [peer for peer in self._peers if not peer.is_alive]:
            if time.monotonic() > deadline:
                raise PeerLost(
                    f"{self.run.title}: {missing[0].name} did not start within {START_TIMEOUT_SECONDS:.0f} s"
                )
            time.sleep(min(1.0, POLL_INTERVAL_SECONDS))
            self.check()

    def wait_until_published(self) -> None:
        """Wait until rank 0 has published. If it fails before, its next attempt needs this node again.

        Raises:
            PeerLost: rank 0 was lost without publishing.
        """
        while artifacts.find_manifest(self.storage, self.run) is None:
            self.check()
            time.sleep(POLL_INTERVAL_SECONDS)


class _Peer:
    """One peer. Its first heartbeat read may be left over from an earlier attempt, so only a changed one counts."""

    def __init__(self, storage: Storage, run: StageRun, rank: int) -> None:
        self.name = f"node {rank}"
        self.is_alive = False
        self._storage, self._run, self._rank = storage, run, rank
        self._elapsed: float | None = None
        self._changed_at = time.monotonic()
        self._elapsed = self._read()

    def check(self) -> None:
        elapsed, previous = self._read(), self._elapsed
        if elapsed == previous:
            if self.is_alive and time.monotonic() - self._changed_at > HEARTBEAT_TIMEOUT_SECONDS:
                raise self._lost(f"sent no heartbeat for {HEARTBEAT_TIMEOUT_SECONDS:.0f} s")
            return
        if self.is_alive and elapsed is None:
            raise self._lost("has ended")
        if self.is_alive and previous is not None and elapsed is not None and elapsed < previous:
            raise self._lost("has restarted")
        self.is_alive = elapsed is not None
        self._elapsed, self._changed_at = elapsed, time.monotonic()

    def _read(self) -> float | None:
        """Return the seconds that the peer's attempt has run.

        A store that does not answer counts as an unchanged heartbeat.
        """
        try:
            return elapsed_seconds(self._storage, self._run, self._rank)
        except FtjobsError:
            self._changed_at = time.monotonic()
            return self._elapsed

    def _lost(self, reason: str) -> PeerLost:
        return PeerLost(f"{self._run.title}: {self.name} {reason}; all nodes restart from the latest training state")
