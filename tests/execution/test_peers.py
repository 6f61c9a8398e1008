"""What a machine makes of the signs of life of those that run a stage with it."""

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
from ftjobs.execution.topology import ALONE, Topology
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import Storage, open_storage

JOB = Path(__file__).parents[2] / "jobs/quickstart.yaml"


def machine(rank: int, of: int = 2) -> Topology:
    return Topology(processes=of, machines=of, rank=rank, address="here")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "SECONDS_BETWEEN_LOOKS", 0.0)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "store"))


@pytest.fixture
def run() -> StageRun:
    return plan(read(JOB))[0]


@pytest.fixture
def sign(storage: Storage, run: StageRun, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the machine of a rank give a sign, so many seconds after its attempt began."""

    def give(rank: int, seconds: float) -> None:
        with monkeypatch.context() as patch:
            now = [0.0]
            patch.setattr(heartbeat.time, "monotonic", lambda: now[0])
            alive = Heartbeat(storage, run, machines=machine(rank, of=3))
            now[0] = seconds
            alive._sign()

    return give


def end(storage: Storage, run: StageRun, rank: int) -> None:
    storage.delete(f"{run.key}/running-{rank}.json" if rank else f"{run.key}/running.json")


def publish(storage: Storage, run: StageRun, folder: Path) -> None:
    folder.mkdir()
    (folder / "report.md").write_text("")
    artifacts.publish(storage, run, folder, {}, {})


def test_they_wait_for_each_other(storage: Storage, run: StageRun) -> None:
    def come(rank: int) -> None:
        with Heartbeat(storage, run, machines=machine(rank, of=3)):
            Peers(storage, run, machine(rank, of=3)).wait_until_there()
            together.wait()

    together = threading.Barrier(3, timeout=20.0)
    threads = [threading.Thread(target=come, args=(rank,)) for rank in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken
    assert list(storage.list("")) == []


def test_one_that_does_not_come(
    storage: Storage, run: StageRun, sign: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "SECONDS_TO_COME", 0.0)
    sign(1, 5000.0)  # of an attempt that was killed
    others = Peers(storage, run, machine(0))
    with pytest.raises(PeerLost, match="prepare: machine 1 did not come within 0 s"):
        others.wait_until_there()


def test_what_a_killed_attempt_has_left_is_no_sign(storage: Storage, run: StageRun, sign: Callable[..., None]) -> None:
    sign(1, 5000.0)
    others = Peers(storage, run, machine(0))
    others.look()
    sign(1, 0.0)  # the next attempt
    others.look()
    others.wait_until_there()


def test_one_that_has_ended(storage: Storage, run: StageRun, sign: Callable[..., None]) -> None:
    others = Peers(storage, run, machine(0))
    others.look()  # not there yet, which is nothing to end for
    sign(1, 10.0)
    others.look()
    end(storage, run, 1)
    with pytest.raises(PeerLost, match="machine 1 has ended; all machines begin again"):
        others.look()


def test_one_that_begins_anew(storage: Storage, run: StageRun, sign: Callable[..., None]) -> None:
    others = Peers(storage, run, machine(0))
    for seconds in (10.0, 20.0):
        sign(1, seconds)
        others.look()
    sign(1, 1.0)
    with pytest.raises(PeerLost, match="machine 1 has begun anew"):
        others.look()


def test_one_that_is_silent(
    storage: Storage, run: StageRun, sign: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(peers.time, "monotonic", lambda: now[0])
    others = Peers(storage, run, machine(0))
    sign(1, 10.0)
    others.look()
    now[0] = 299.0
    others.look()
    now[0] = 301.0
    with pytest.raises(PeerLost, match="machine 1 gives no sign of life for 300 s"):
        others.look()


def test_a_store_that_is_down_says_nothing_of_a_machine(
    storage: Storage, run: StageRun, sign: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(peers.time, "monotonic", lambda: now[0])
    others = Peers(storage, run, machine(0))
    sign(1, 10.0)
    others.look()

    def down(key: str) -> bytes:
        raise FtjobsError("does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "read", down)
        now[0] = 1000.0
        others.look()
    now[0] = 1299.0
    others.look()


def test_all_depend_on_the_first_and_it_on_all(storage: Storage, run: StageRun, sign: Callable[..., None]) -> None:
    first, second = Peers(storage, run, machine(0, of=3)), Peers(storage, run, machine(1, of=3))
    for rank in range(3):
        sign(rank, 10.0)
    first.look()
    second.look()
    end(storage, run, 2)
    second.look()
    with pytest.raises(PeerLost, match="machine 2 has ended"):
        first.look()
    end(storage, run, 0)
    with pytest.raises(PeerLost, match="machine 0 has ended"):
        second.look()


def test_a_machine_alone_asks_for_nothing(run: StageRun, storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "read", lambda key: pytest.fail(key))
    others = Peers(storage, run, ALONE)
    others.wait_until_there()
    others.look()


class TestAssisting:
    """A machine other than the first ends when the stage is published, and not before."""

    @pytest.fixture
    def assist(
        self, storage: Storage, run: StageRun, sign: Callable[..., None], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[Callable[[], None]], None]:
        """Let the second machine do its share, and the first one then do this."""

        def assisted(then: Callable[[], None]) -> None:
            def share(run: StageRun, storage: Storage, needed: Any, attempt: Any) -> None:
                sign(0, 10.0)
                attempt.others.look()
                then()

            with monkeypatch.context() as patch:
                patch.setattr(runner, "_produce", share)
                runner.assist(run, storage, machine(1))

        return assisted

    def test_the_first_publishes(
        self, storage: Storage, run: StageRun, assist: Callable[..., None], tmp_path: Path
    ) -> None:
        later = threading.Timer(0.3, lambda: publish(storage, run, tmp_path / "output"))
        assist(later.start)
        assert artifacts.find(storage, run) is not None
        later.join()

    def test_the_first_publishes_and_has_ended_at_the_next_look(
        self, storage: Storage, run: StageRun, assist: Callable[..., None], tmp_path: Path
    ) -> None:
        def lost() -> None:
            publish(storage, run, tmp_path / "output")
            raise PeerLost("machine 0 has ended")

        assist(lost)

    def test_the_first_ends_without_publishing(
        self, storage: Storage, run: StageRun, assist: Callable[..., None]
    ) -> None:
        with pytest.raises(PeerLost, match="machine 0 has ended"):
            assist(lambda: end(storage, run, 0))
        assert list(storage.list("")) == []  # it says nothing of a failure, for there is none
