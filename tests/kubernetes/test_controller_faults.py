"""The controller when it is killed, duplicated or denied access, and with a faulty API server or store."""

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
from ftjobs.kubernetes import cluster_client, controller
from ftjobs.kubernetes.api_objects import PipelineJobs
from ftjobs.kubernetes.cluster_client import ClusterClient
from ftjobs.kubernetes.controller import Controller
from tests.fakes.kubernetes_api import HANG_UP, Answer, Request, kubeconfig
from tests.fakes.toy_cluster import ToyCluster, conduct, until
from tests.helpers.messages import mentions

pytestmark = pytest.mark.usefixtures("short_waits")


class Killed(BaseException):
    """Ends a controller, like SIGKILL."""


class KillingJobs(PipelineJobs):
    """Kill the controller at its n-th request, before or after the request is carried out."""

    requests_left = 10**9
    kills_after_request = False

    def list(self) -> Any:
        return self._call(super().list)

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        return self._call(lambda: PipelineJobs.patch(self, name, patch))

    def wait(self, known: Any, seconds: float) -> None:
        return self._call(lambda: PipelineJobs.wait(self, known, seconds))

    def _call(self, call: Callable[[], Any]) -> Any:
        KillingJobs.requests_left -= 1
        if KillingJobs.requests_left == 0 and not self.kills_after_request:
            raise Killed
        result = call()
        if KillingJobs.requests_left == 0:
            raise Killed
        return result


class TestFaults:
    @pytest.mark.parametrize("after_request", [False, True])
    def test_controller_killed_at_every_request_in_turn(
        self, toy: ToyCluster, after_request: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Each controller sends one request more than the previous one, until one reaches the report."""
        monkeypatch.setattr(controller, "POLL", 0.05)
        toy.api.longest_watch = 0.01
        KillingJobs.kills_after_request = after_request
        for requests in itertools.count(1):
            KillingJobs.requests_left = requests
            try:
                Controller(toy.stages, toy.storage, KillingJobs(ClusterClient(), "toy")).run()
                break
            except Killed:
                toy.step()
        assert requests > 5
        assert toy.everything_ran()

    def test_two_controllers_at_once(self, toy: ToyCluster) -> None:
        failures: list[BaseException] = []

        def run() -> None:
            try:
                conduct(toy)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(2)]
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
    def test_every_third_request_fails(self, toy: ToyCluster, answer: Answer) -> None:
        count = itertools.count(1)
        toy.api.fault = lambda request: answer if next(count) % 3 == 0 else None
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_pipeline_completes_despite_random_faults(self, toy: ToyCluster) -> None:
        generator = random.Random(7)
        answers = [Answer(500), Answer(429), Answer(403), Answer(401), Answer(504), Answer(200, cut=3), HANG_UP]
        toy.api.fault = lambda request: generator.choice(answers) if generator.random() < 0.3 else None
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_retry_after_is_respected(self, toy: ToyCluster) -> None:
        times: list[float] = []

        def fault(request: Request) -> Answer | None:
            times.append(time.monotonic())
            return Answer(429, headers={"Retry-After": "1"}) if len(times) == 1 else None

        toy.api.fault = fault
        PipelineJobs(ClusterClient(), "toy").list()
        assert times[1] - times[0] >= 1

    def test_running_controller_waits_for_an_unavailable_server(
        self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server is down for longer than PATIENCE."""
        monkeypatch.setattr(cluster_client, "PATIENCE", 0.1)
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

    def test_server_unavailable_from_the_start_is_an_error(
        self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(cluster_client, "PATIENCE", 0.1)
        toy.api.down()
        with pytest.raises(FtjobsError, match=r"^list jobs .*http://127.0.0.1:\d+: .*refused.*after 0 s$") as failure:
            conduct(toy)
        assert failure.value.exit_code == 1

    def test_controller_in_a_pod_waits_for_a_server_unavailable_from_the_start(
        self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exit code 1 would fail the controller's Job permanently."""
        monkeypatch.setattr(cluster_client, "PATIENCE", 0.1)
        toy.api.down()
        cluster = ClusterClient()
        cluster.in_cluster = True
        thread = threading.Thread(target=Controller(toy.stages, toy.storage, PipelineJobs(cluster, "toy")).run)
        thread.start()
        time.sleep(0.8)
        assert thread.is_alive()
        toy.api.up()
        with toy.running():
            thread.join()
        assert toy.everything_ran()

    def test_server_that_exceeds_the_read_timeout(self, toy: ToyCluster) -> None:
        slow = itertools.count()

        def fault(request: Request) -> Answer | None:
            if request.verb in ("list", "patch") and next(slow) % 4 == 1:
                time.sleep(0.8)  # above the read timeout
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_watches_that_end_immediately(self, toy: ToyCluster) -> None:
        toy.api.longest_watch = 0.0
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()
        assert toy.api.count("watch") < 100

    def test_watches_from_an_expired_resource_version(self, toy: ToyCluster) -> None:
        def fault(request: Request) -> Answer | None:
            if request.verb == "watch":
                toy.api.forget_history()
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_controller_waits_for_an_unavailable_store(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        calls = itertools.count(1)
        find = artifacts.find_manifest

        def find_with_faults(storage: Any, run: Any) -> Any:
            if threading.current_thread().name.startswith("ftjobs-files") and next(calls) in range(9, 40):
                raise FtjobsError("s3://bucket: down; gave up after 300 s")
            return find(storage, run)

        monkeypatch.setattr(artifacts, "find_manifest", find_with_faults)
        with toy.running():
            conduct(toy)
        assert next(calls) > 40
        assert toy.everything_ran()

    def test_denied_store_is_a_user_error(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        def deny(storage: Any, run: Any) -> Any:
            raise UserError("s3://bucket: denied")

        monkeypatch.setattr(artifacts, "find_manifest", deny)
        with pytest.raises(UserError, match="denied"):
            conduct(toy)


class TestAccess:
    @pytest.mark.parametrize("verb", ["list", "patch"])
    def test_missing_verb_in_role_is_a_user_error(self, toy: ToyCluster, verb: str) -> None:
        toy.api.forbidden = {verb}
        with pytest.raises(UserError) as failure:
            conduct(toy)
        assert mentions(str(failure.value), f'cannot {verb} resource "jobs"', "Role", "get, list, watch", "patch")

    def test_role_created_after_the_controller_started(self, toy: ToyCluster) -> None:
        toy.api.forbidden = {"list", "watch", "patch"}
        threading.Timer(0.1, toy.api.forbidden.clear).start()
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()

    def test_controller_polls_without_the_watch_verb(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        toy.api.forbidden = {"watch"}
        with toy.running():
            conduct(toy)
        assert toy.api.count("watch") == 1
        assert sum("without a watch" in line for line in log.messages) == 1

    def test_controller_uses_only_verbs_of_its_role(self, toy: ToyCluster) -> None:
        with toy.running():
            conduct(toy)
        assert {request.verb for request in toy.api.seen} <= {"get", "list", "watch", "patch"}

    def test_rotated_token_is_read_again(
        self, toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
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

    def test_rejected_token_is_a_user_error(self, toy: ToyCluster) -> None:
        toy.api.token = "another"
        with pytest.raises(UserError, match=r"401 Unauthorized; .*log in"):
            conduct(toy)

    def test_server_without_jobs_api_is_a_user_error(self, toy: ToyCluster) -> None:
        toy.api.fault = lambda request: Answer(404, "page not found")
        with pytest.raises(UserError, match=r"http://127.0.0.1:\d+: .*KUBECONFIG.*--context"):
            conduct(toy)

    def test_rejected_patch_is_a_user_error(self, toy: ToyCluster) -> None:
        toy.api.fault = lambda request: (
            Answer(422, "an admission webhook denied it") if request.verb == "patch" else None
        )
        with pytest.raises(UserError, match=r"patch job toy-prepare-\w+ .*422.*denied it"):
            conduct(toy)
