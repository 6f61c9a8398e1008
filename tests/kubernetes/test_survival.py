"""The conductor killed, doubled, refused, and with an API server and a store that fail in every way."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes import connection, controller
from ftjobs.kubernetes.cluster import Cluster
from ftjobs.kubernetes.connection import Connection
from ftjobs.kubernetes.controller import Controller
from tests.fakes.kubernetes_api import HANG_UP, Answer, Request, kubeconfig
from tests.fakes.toy_cluster import ToyCluster, conduct, until

pytestmark = pytest.mark.usefixtures("quick")


class Killed(BaseException):
    """The process is gone."""


class Mortal(Cluster):
    """A cluster whose user dies at its n-th call, before or after it is carried out."""

    left = 10**9
    is_after = False

    def jobs(self) -> Any:
        return self._call(super().jobs)

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        return self._call(lambda: Cluster.patch(self, name, patch))

    def wait(self, seen: Any, seconds: float) -> None:
        return self._call(lambda: Cluster.wait(self, seen, seconds))

    def _call(self, call: Callable[[], Any]) -> Any:
        Mortal.left -= 1
        if Mortal.left == 0 and not self.is_after:
            raise Killed
        found = call()
        if Mortal.left == 0:
            raise Killed
        return found


class TestSurviving:
    @pytest.mark.parametrize("is_after", [False, True])
    def test_killed_at_every_call_in_turn(
        self, toy: ToyCluster, is_after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each conductor lives one call longer than the one before, until one lives to see the report."""
        monkeypatch.setattr(controller, "POLL", 0.05)
        toy.api.longest_watch = 0.01
        Mortal.is_after = is_after
        for life in itertools.count(1):
            Mortal.left = life
            try:
                Controller(toy.stages, toy.storage, Mortal(Connection(), "toy")).run()
                break
            except Killed:
                toy.step()
        assert life > 5
        assert toy.everything_ran()

    def test_two_at_once(self, toy: ToyCluster) -> None:
        failures: list[BaseException] = []

        def one() -> None:
            try:
                conduct(toy)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=one) for _ in range(2)]
        with toy.running():
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert failures == []
        assert toy.everything_ran()

    @pytest.mark.parametrize(
        "answer",
        [
            Answer(500),
            Answer(503, headers={"Retry-After": "0"}),
            Answer(429, "too many requests", {"Retry-After": "0"}),
            Answer(409, "the object has been modified"),
            Answer(410, "expired"),
            Answer(200, cut=40),
            HANG_UP,
        ],
        ids=["500", "503", "429", "409", "410", "cut", "hang-up"],
    )
    def test_every_third_request_goes_wrong(self, toy: ToyCluster, answer: Answer) -> None:
        count = itertools.count(1)
        toy.api.fault = lambda request: answer if next(count) % 3 == 0 else None
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_faults_at_random(self, toy: ToyCluster) -> None:
        random_fault = random.Random(7)
        answers = [Answer(500), Answer(429), Answer(403), Answer(401), Answer(504), Answer(200, cut=3), HANG_UP]
        toy.api.fault = lambda request: random_fault.choice(answers) if random_fault.random() < 0.3 else None
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_it_waits_as_long_as_the_server_asks(self, toy: ToyCluster) -> None:
        times: list[float] = []

        def fault(request: Request) -> Answer | None:
            times.append(time.monotonic())
            return Answer(429, headers={"Retry-After": "1"}) if len(times) == 1 else None

        toy.api.fault = fault
        Cluster(Connection(), "toy").jobs()
        assert times[1] - times[0] >= 1

    def test_a_server_that_is_gone_for_a_while(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        """For longer than the patience of a call: a conductor that has been at work goes on."""
        monkeypatch.setattr(connection, "PATIENCE", 0.1)
        thread = threading.Thread(target=conduct, args=(toy,))
        thread.start()
        until(lambda: not toy.is_suspended("prepare"))
        toy.api.down()
        time.sleep(0.8)
        assert thread.is_alive()
        toy.api.up()
        with toy.running():
            thread.join()
        assert toy.everything_ran()

    def test_a_server_that_was_never_there(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "PATIENCE", 0.1)
        toy.api.down()
        with pytest.raises(
            FtjobsError, match=r"^list jobs at http://127.0.0.1:\d+: .*refused.*; gave up after 0 s$"
        ) as failure:
            conduct(toy)
        assert failure.value.exit_code == 1

    def test_in_a_pod_it_waits_for_a_server_that_was_never_there(
        self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its exit code 1 ends the pipeline's Job."""
        monkeypatch.setattr(connection, "PATIENCE", 0.1)
        toy.api.down()
        here = Connection()
        here.in_cluster = True
        thread = threading.Thread(target=Controller(toy.stages, toy.storage, Cluster(here, "toy")).run)
        thread.start()
        time.sleep(0.8)
        assert thread.is_alive()
        toy.api.up()
        with toy.running():
            thread.join()
        assert toy.everything_ran()

    def test_a_server_that_hangs(self, toy: ToyCluster) -> None:
        slow = itertools.count()

        def fault(request: Request) -> Answer | None:
            if request.verb in ("list", "patch") and next(slow) % 4 == 1:
                time.sleep(0.8)  # longer than the time-out
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_watches_that_end_at_once(self, toy: ToyCluster) -> None:
        toy.api.longest_watch = 0.0
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()
        assert toy.api.count("watch") < 100

    def test_watches_from_a_version_that_is_forgotten(self, toy: ToyCluster) -> None:
        def fault(request: Request) -> Answer | None:
            if request.verb == "watch":
                toy.api.forget_history()
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_a_store_that_is_gone_for_a_while(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = itertools.count(1)
        find = artifacts.find

        def sometimes(storage: Any, run: Any) -> Any:
            if threading.current_thread().name.startswith("ftjobs-files") and next(calls) in range(9, 40):
                raise FtjobsError("s3://bucket: down; gave up after 300 s")
            return find(storage, run)

        monkeypatch.setattr(artifacts, "find", sometimes)
        with toy.running():
            conduct(toy)
        assert next(calls) > 40
        assert toy.everything_ran()

    def test_a_store_that_may_not_be_read(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(storage: Any, run: Any) -> Any:
            raise UserError("s3://bucket: not allowed")

        monkeypatch.setattr(artifacts, "find", refused)
        with pytest.raises(UserError, match="not allowed"):
            conduct(toy)


class TestAccess:
    @pytest.mark.parametrize("verb", ["list", "patch"])
    def test_a_role_that_lacks_a_verb(self, toy: ToyCluster, verb: str) -> None:
        toy.api.forbidden = {verb}
        with pytest.raises(UserError) as failure:
            conduct(toy)
        assert f'cannot {verb} resource "jobs" in API group "batch"' in str(failure.value)
        assert "needs a Role with the verbs get, list, watch and patch" in str(failure.value)

    def test_a_role_that_comes_a_moment_later(self, toy: ToyCluster) -> None:
        toy.api.forbidden = {"list", "watch", "patch"}
        threading.Timer(0.1, toy.api.forbidden.clear).start()
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_without_watching_it_looks_now_and_then(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        toy.api.forbidden = {"watch"}
        with toy.running():
            conduct(toy)
        assert toy.api.count("watch") == 1
        assert sum("without watching" in line for line in log.messages) == 1

    def test_what_the_role_allows_is_enough(self, toy: ToyCluster) -> None:
        with toy.running():
            conduct(toy)
        assert {request.verb for request in toy.api.seen} <= {"get", "list", "watch", "patch"}

    def test_a_token_that_is_renewed(self, toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        token = tmp_path / "token"
        token.write_text("first")
        toy.api.token = "first"
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(toy.api, tmp_path / "other", token)))
        thread = threading.Thread(target=conduct, args=(toy,))
        thread.start()
        until(lambda: not toy.is_suspended("prepare"))
        toy.api.token = "second"
        token.write_text("second")
        with toy.running():
            thread.join()
        assert toy.everything_ran()

    def test_a_token_that_is_not_accepted(self, toy: ToyCluster) -> None:
        toy.api.token = "another"
        with pytest.raises(UserError, match="401 Unauthorized; the credentials are not accepted"):
            conduct(toy)

    def test_a_server_of_something_else(self, toy: ToyCluster) -> None:
        toy.api.fault = lambda request: Answer(404, "page not found")
        with pytest.raises(UserError, match="knows no Jobs; is it the API server of a cluster"):
            conduct(toy)

    def test_a_patch_that_is_refused(self, toy: ToyCluster) -> None:
        toy.api.fault = lambda request: (
            Answer(422, "an admission webhook denied it") if request.verb == "patch" else None
        )
        with pytest.raises(UserError, match=r"patch job toy-prepare-\w+ at .*: 422 an admission webhook denied it"):
            conduct(toy)
