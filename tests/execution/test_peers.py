"""Failed peers are detected through their heartbeats in storage."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.errors import FtjobsError, PeerLost
from ftjobs.execution import heartbeat, peers, runner
from ftjobs.execution.heartbeat import Heartbeat
from ftjobs.execution.peers import Peers
from ftjobs.execution.topology import SINGLE_PROCESS, Topology
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import Storage, open_storage

JOB = Path(__file__).parents[2] / "jobs/quickstart.yaml"


def node(rank: int, nodes: int = 2) -> Topology:
    return Topology(processes=nodes, nodes=nodes, rank=rank, address="here")


@pytest.fixture(autouse=True)
def no_polling_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "POLL_INTERVAL_SECONDS", 0.0)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def run() -> StageRun:
    return plan(read(JOB))[0]


@pytest.fixture
def beat(storage: Storage, run: StageRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`beat(rank, seconds)` writes a heartbeat of a node whose attempt began that many seconds ago."""

    def write(rank: int, seconds: float) -> None:
        with monkeypatch.context() as patch:
            now = [0.0]
            patch.setattr(heartbeat.time, "monotonic", lambda: now[0])
            heart = Heartbeat(storage, run, topology=node(rank, nodes=3))
            now[0] = seconds
            heart._beat()

    return write


def end(storage: Storage, run: StageRun, rank: int) -> None:
    storage.delete(f"{run.key}/running-{rank}.json" if rank else f"{run.key}/running.json")


def publish(storage: Storage, run: StageRun, folder: Path) -> None:
    folder.mkdir()
    (folder / "report.md").write_text("")
    artifacts.publish(storage, run, folder, {}, {})


def test_peers_wait_for_each_other(storage: Storage, run: StageRun) -> None:
    def start(rank: int) -> None:
        with Heartbeat(storage, run, topology=node(rank, nodes=3)):
            Peers(storage, run, node(rank, nodes=3)).wait_until_alive()
            together.wait()

    together = threading.Barrier(3, timeout=20.0)
    threads = [threading.Thread(target=start, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert list(storage.list("")) == []


def test_peer_that_does_not_start_is_lost(
    storage: Storage, run: StageRun, beat: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "START_TIMEOUT_SECONDS", 0.0)
    beat(1, 5000.0)  # left by a killed attempt
    watched = Peers(storage, run, node(0))
    with pytest.raises(PeerLost, match=r"prepare: node 1 .*not start"):
        watched.wait_until_alive()


def test_heartbeat_of_killed_attempt_is_ignored(storage: Storage, run: StageRun, beat: Callable[..., None]) -> None:
    beat(1, 5000.0)
    watched = Peers(storage, run, node(0))
    watched.check()
    beat(1, 0.0)  # the next attempt
    watched.check()
    watched.wait_until_alive()


def test_peer_that_has_ended_is_lost(storage: Storage, run: StageRun, beat: Callable[..., None]) -> None:
    watched = Peers(storage, run, node(0))
    watched.check()  # not started yet, which is no failure
    beat(1, 10.0)
    watched.check()
    end(storage, run, 1)
    with pytest.raises(PeerLost, match=r"node 1 .*ended"):
        watched.check()


def test_peer_that_restarts_is_lost(storage: Storage, run: StageRun, beat: Callable[..., None]) -> None:
    watched = Peers(storage, run, node(0))
    for seconds in (10.0, 20.0):
        beat(1, seconds)
        watched.check()
    beat(1, 1.0)
    with pytest.raises(PeerLost, match=r"node 1 .*restarted"):
        watched.check()


def test_peer_without_heartbeat_is_lost_after_timeout(
    storage: Storage, run: StageRun, beat: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(peers.time, "monotonic", lambda: now[0])
    watched = Peers(storage, run, node(0))
    beat(1, 10.0)
    watched.check()
    now[0] = 299.0
    watched.check()
    now[0] = 301.0
    with pytest.raises(PeerLost, match=r"node 1 .*300 s"):
        watched.check()


def test_store_outage_does_not_lose_a_peer(
    storage: Storage, run: StageRun, beat: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(peers.time, "monotonic", lambda: now[0])
    watched = Peers(storage, run, node(0))
    beat(1, 10.0)
    watched.check()

    def down(key: str) -> bytes:
        raise FtjobsError("does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "read", down)
        now[0] = 1000.0
        watched.check()
    now[0] = 1299.0
    watched.check()


def test_rank_0_watches_all_and_all_watch_rank_0(storage: Storage, run: StageRun, beat: Callable[..., None]) -> None:
    first, second = Peers(storage, run, node(0, nodes=3)), Peers(storage, run, node(1, nodes=3))
    for rank in range(3):
        beat(rank, 10.0)
    first.check()
    second.check()
    end(storage, run, 2)
    second.check()
    with pytest.raises(PeerLost, match=r"node 2 .*ended"):
        first.check()
    end(storage, run, 0)
    with pytest.raises(PeerLost, match=r"node 0 .*ended"):
        second.check()


def test_single_node_reads_no_heartbeats(run: StageRun, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "read", lambda key: pytest.fail(key))
    watched = Peers(storage, run, SINGLE_PROCESS)
    watched.wait_until_alive()
    watched.check()


class TestAssist:
    """A node of rank 1 ends when the stage is published, and not before."""

    @pytest.fixture
    def assist(
        self, storage: Storage, run: StageRun, beat: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Callable[[], None]], None]:
        """`assist(then)` runs the share of rank 1, and then calls `then`, which acts for rank 0."""

        def run_share(then: Callable[[], None]) -> None:
            def produce(run: StageRun, storage: Storage, attempt: Any) -> None:
                beat(0, 10.0)
                attempt.peers.check()
                then()

            with monkeypatch.context() as patch:
                patch.setattr(runner, "_produce", produce)
                runner.assist(run, storage, node(1))

        return run_share

    def test_ends_once_rank_0_has_published(
        self, storage: Storage, run: StageRun, assist: Callable[..., None], tmp_path: Path
    ) -> None:
        later = threading.Timer(0.3, lambda: publish(storage, run, tmp_path / "output"))
        assist(later.start)
        assert artifacts.find_manifest(storage, run) is not None
        later.join()

    def test_succeeds_if_rank_0_ends_after_publishing(
        self, storage: Storage, run: StageRun, assist: Callable[..., None], tmp_path: Path
    ) -> None:
        def lost() -> None:
            publish(storage, run, tmp_path / "output")
            raise PeerLost("node 0 has ended")

        assist(lost)

    def test_fails_if_rank_0_ends_without_publishing(
        self, storage: Storage, run: StageRun, assist: Callable[..., None]
    ) -> None:
        with pytest.raises(PeerLost, match=r"node 0 .*ended"):
            assist(lambda: end(storage, run, 0))
        assert list(storage.list("")) == []  # and stores no failure
