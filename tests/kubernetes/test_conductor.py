"""The whole conductor against an API server at the HTTP level, with a Job controller that publishes small artifacts."""

from __future__ import annotations

import itertools
import json
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes import cluster, conductor, connection
from ftjobs.kubernetes.cluster import Cluster
from ftjobs.kubernetes.conductor import Conductor
from ftjobs.kubernetes.connection import Connection
from ftjobs.kubernetes.stagejobs import KUEUE_QUEUE, QUEUE, SUSPENDED, StageJob
from ftjobs.progress import LOG
from ftjobs.storage import LocalStorage
from tests.kubernetes.api_server import HANG_UP, Answer, ApiServer, Request, api_server, kubeconfig
from tests.kubernetes.toy_cluster import ToyCluster, toy_stages

ALL = ["prepare", "adapt", "plain", "adapted", "report"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundredths of a second instead of seconds."""
    monkeypatch.setattr(conductor, "POLL", 0.3)
    monkeypatch.setattr(conductor, "GRACE", 0.4)
    monkeypatch.setattr(cluster, "AFTER_CHANGE", 0.01)
    monkeypatch.setattr(cluster, "AFTER_FAILURE", 0.05)
    monkeypatch.setattr(connection, "SHORTEST_WAIT", 0.01)
    monkeypatch.setattr(connection, "LONGEST_WAIT", 0.05)
    monkeypatch.setattr(connection, "PATIENCE", 2.0)
    monkeypatch.setattr(connection, "REFUSED_PATIENCE", 0.3)
    monkeypatch.setattr(connection, "TIMEOUTS", (1.0, 0.5))
    monkeypatch.setattr(cluster, "TIMEOUTS", (1.0, 0.5))


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(LOG, "propagate", True)  # a command that ran before may have switched it off
    caplog.set_level(logging.INFO, "ftjobs")
    return caplog


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    with api_server() as server:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig(server, tmp_path / "kubeconfig")))
        yield server


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


@pytest.fixture
def toy(api: ApiServer, storage: LocalStorage, tmp_path: Path) -> ToyCluster:
    cluster = ToyCluster(api, toy_stages(tmp_path), storage, tmp_path / "outputs")
    cluster.apply()
    return cluster


def conduct(toy: ToyCluster, queue: str | None = None) -> Manifest:
    return Conductor(toy.stages, toy.storage, Cluster(Connection(), "toy"), queue).run()


def named(toy: ToyCluster, stage: str) -> StageJob:
    return next(one for one in toy.stages if one.stage == stage)


def note(toy: ToyCluster, stage: str) -> str | None:
    return toy.api.jobs[named(toy, stage).name]["metadata"].get("annotations", {}).get(SUSPENDED)


def is_suspended(toy: ToyCluster, stage: str) -> bool:
    return bool(toy.api.jobs[named(toy, stage).name]["spec"]["suspend"])


def everything_ran(toy: ToyCluster) -> bool:
    titles = [run.title for stage in toy.stages for run in stage.runs]
    return toy.too_early == [] and set(toy.ran) == set(titles)


def until(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


class TestRunning:
    def test_a_pipeline_to_its_report(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        with toy.running():
            report = conduct(toy)
        assert report.stage == "report"
        assert everything_ran(toy)
        assert [note(toy, stage) for stage in ALL] == [None] * 5
        assert log.messages[:5] == [
            "prepare: released",
            *("adapt: waits for prepare", "plain: waits for prepare", "adapted: waits for prepare, adapt"),
            "report: waits for prepare, adapt, plain, adapted",
        ]
        for line in ("prepare: published", "adapt seed 2: published", "adapted: released", "report: published"):
            assert log.messages.count(line) == 1

    def test_each_job_is_resumed_by_one_patch(self, toy: ToyCluster) -> None:
        with toy.running():
            conduct(toy)
        for stage in toy.stages:
            assert sum("spec" in patch for patch in toy.api.patches(stage.name)) == 1

    def test_changes_are_noticed_by_the_watch(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(conductor, "POLL", 60.0)
        started = time.monotonic()
        with toy.running():
            conduct(toy)
        assert time.monotonic() - started < 10

    def test_what_is_published_from_elsewhere_is_noticed_by_looking(self, toy: ToyCluster) -> None:
        thread = threading.Thread(
            target=lambda: [toy.publish(stage, index) for stage in toy.stages for index in range(len(stage.runs))]
        )
        thread.start()
        conduct(toy)
        thread.join()
        assert toy.ran == []

    def test_a_published_pipeline_ends_at_once_and_runs_nothing(self, toy: ToyCluster) -> None:
        for stage in toy.stages:
            for index in range(len(stage.runs)):
                toy.publish(stage, index)
        conduct(toy)
        assert all(is_suspended(toy, stage) for stage in ALL)
        assert note(toy, "adapt") == "published already; nothing to run"

    def test_jobs_of_another_job_file_are_left_alone(self, toy: ToyCluster, tmp_path: Path) -> None:
        others = ToyCluster(toy.api, toy_stages(tmp_path, "stages.adapt.epochs=7"), toy.storage, tmp_path)
        assert {one.name for one in others.stages} & {one.name for one in toy.stages} == {
            named(toy, "prepare").name,
            named(toy, "plain").name,
        }
        others.apply()
        with toy.running():
            conduct(toy)
        assert toy.api.patches(named(others, "adapt").name) == []
        assert everything_ran(toy)

    def test_with_a_queue_the_label_is_set_and_suspend_left_to_kueue(self, toy: ToyCluster) -> None:
        adapt = named(toy, "adapt").name
        toy.api.change(adapt, {"metadata": {"annotations": {QUEUE: "big"}}})
        queues = {}

        def admit() -> None:
            for name, job in list(toy.api.jobs.items()):
                if KUEUE_QUEUE in job["metadata"]["labels"]:
                    queues[name] = job["metadata"]["labels"][KUEUE_QUEUE]
                    toy.api.change(name, {"spec": {"suspend": False}})

        ended = threading.Event()

        def kueue() -> None:
            while not ended.wait(0.01):
                admit()

        thread = threading.Thread(target=kueue)
        thread.start()
        with toy.running():
            conduct(toy, queue="gpus")
        ended.set()
        thread.join()
        assert everything_ran(toy)
        assert all("spec" not in patch for stage in toy.stages for patch in toy.api.patches(stage.name))
        assert queues == {stage.name: "big" if stage.stage == "adapt" else "gpus" for stage in toy.stages}


class TestFailures:
    def test_a_failed_stage_blocks_what_reads_it_and_nothing_else(self, toy: ToyCluster) -> None:
        toy.fails["adapt"] = {1}
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.exit_code == 1
        adapt = named(toy, "adapt").name
        assert failure.value.problems == [
            f"adapt failed: FailedIndexes: Job has failed indexes; its log: `kubectl --namespace team logs job/{adapt}`",
            "nothing more can run; adapted, report will not run without; mend it, delete "
            f"job/{adapt} and the conductor's Job, and apply again",
        ]
        assert {"plain seed 1", "plain seed 2", "adapt seed 1"} <= set(toy.ran)
        assert not {"adapted seed 1", "report"} & set(toy.ran)
        assert is_suspended(toy, "adapted")
        assert (
            note(toy, "adapted")
            == note(toy, "report")
            == "blocked: adapt failed: FailedIndexes: Job has failed indexes"
        )

    def test_the_reason_is_the_one_that_the_stage_has_left_in_storage(self, toy: ToyCluster, tmp_path: Path) -> None:
        run = named(toy, "adapt").runs[1]
        (tmp_path / "failed.json").write_text(
            json.dumps({"error": "out of memory\nat step 3", "exit_code": 1, "at": time.time()})
        )
        toy.storage.put(tmp_path / "failed.json", f"{run.key}/failed.json")
        toy.fails["adapt"] = {1}
        with (
            toy.running(),
            pytest.raises(FtjobsError, match=r"adapt failed: FailedIndexes: .*; adapt seed 2: out of memory;"),
        ):
            conduct(toy)
        assert str(note(toy, "report")).endswith("adapt seed 2: out of memory")

    def test_a_seed_that_fails_blocks_at_once_while_others_go_on(self, toy: ToyCluster) -> None:
        toy.fails["adapt"] = {0}
        for _ in range(2):  # prepare, and its end
            toy.api.change(named(toy, "prepare").name, {"spec": {"suspend": False}})
            toy.step()
        toy.api.change(named(toy, "adapt").name, {"spec": {"suspend": False}})
        toy.step()

        def fail() -> None:
            with pytest.raises(FtjobsError):
                conduct(toy)

        thread = threading.Thread(target=fail)
        thread.start()
        until(lambda: note(toy, "adapted") == "blocked: adapt failed: no more tries for adapt seed 1")
        assert thread.is_alive()
        with toy.running():
            thread.join()
        assert "adapt seed 2" in toy.ran

    def test_a_broken_manifest_is_why_a_stage_fails(self, toy: ToyCluster, tmp_path: Path) -> None:
        run = named(toy, "plain").runs[0]
        (tmp_path / "broken").write_text("{")
        toy.storage.put(tmp_path / "broken", f"{run.key}/manifest.json")
        toy.api.change(
            named(toy, "plain").name,
            {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}},
        )
        with toy.running(), pytest.raises(FtjobsError, match=r"plain seed 1: .*no valid manifest"):
            conduct(toy)
        assert "adapted seed 1" in toy.ran

    def test_a_job_that_ends_well_and_publishes_nothing(self, toy: ToyCluster) -> None:
        toy.forgets.add("adapt")
        with (
            toy.running(),
            pytest.raises(
                FtjobsError, match=r"adapt failed: .* is complete, but adapt seed 1, adapt seed 2 is not published"
            ),
        ):
            conduct(toy)
        assert "plain seed 1" in toy.ran

    def test_no_jobs_at_all(self, toy: ToyCluster, tmp_path: Path) -> None:
        for stage in toy.stages:
            toy.api.delete(stage.name)
        with pytest.raises(UserError, match=r"namespace team has no Jobs of these stages of pipeline toy; apply what"):
            conduct(toy)
        ToyCluster(
            toy.api, toy_stages(tmp_path, "stages.adapt.epochs=7", "data.label=c"), toy.storage, tmp_path
        ).apply()
        with pytest.raises(UserError, match="those it has belong to another job file or other --set"):
            conduct(toy)

    def test_jobs_that_are_applied_a_moment_later(self, toy: ToyCluster) -> None:
        for stage in toy.stages:
            toy.api.delete(stage.name)
        timer = threading.Timer(0.2, toy.apply)
        timer.start()
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)


class TestOthersHands:
    def test_applied_again_and_again(self, toy: ToyCluster) -> None:
        """`kubectl apply` sets `suspend: true` again: what may run is resumed again."""
        ended = threading.Event()

        def apply() -> None:
            while not ended.wait(0.05):
                toy.apply()

        thread = threading.Thread(target=apply)
        thread.start()
        with toy.running(0.03):
            conduct(toy)
        ended.set()
        thread.join()
        assert everything_ran(toy)

    def test_applied_again_when_a_stage_was_about_to_end(self, toy: ToyCluster) -> None:
        prepare = named(toy, "prepare")
        toy.api.change(prepare.name, {"spec": {"suspend": False}})
        toy.publish(prepare, 0)
        toy.apply()
        with toy.running():
            conduct(toy)
            until(lambda: all("conditions" in job.get("status", {}) for job in toy.api.jobs.values()))
        assert [note(toy, stage) for stage in ALL] == [None] * 5

    def test_a_deleted_job_that_is_needed_no_more(self, toy: ToyCluster) -> None:
        def delete() -> None:
            until(lambda: "plain seed 1" in toy.ran)
            toy.api.delete(named(toy, "prepare").name)

        thread = threading.Thread(target=delete)
        thread.start()
        with toy.running():
            conduct(toy)
        thread.join()
        assert everything_ran(toy)

    def test_a_deleted_job_counts_as_failed(self, toy: ToyCluster) -> None:
        name = named(toy, "adapt").name
        toy.api.delete(name)
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.problems[0] == f"adapt failed: its Job {name} is not there; apply the manifests again"
        assert "plain seed 2" in toy.ran

    def test_a_deleted_job_that_is_applied_again_runs(self, toy: ToyCluster) -> None:
        toy.api.delete(named(toy, "adapt").name)
        toy.api.fault = lambda request: None
        stuck = ToyCluster(toy.api, [one for one in toy.stages if one.stage == "prepare"], toy.storage, toy.folder)
        thread = threading.Thread(target=conduct, args=(toy,))
        thread.start()
        with stuck.running():  # `plain` may run, but does not end: the pipeline is not over
            until(lambda: str(note(toy, "adapted")).startswith("blocked: adapt failed: its Job"))
        toy.apply()
        with toy.running():
            thread.join()
        assert {*toy.ran, *stuck.ran} == {run.title for stage in toy.stages for run in stage.runs}

    def test_a_job_deleted_between_looking_and_patching(self, toy: ToyCluster) -> None:
        name = named(toy, "prepare").name

        def fault(request: Request) -> Answer | None:
            if request.verb == "patch" and request.name == name and toy.api.count("patch") == 1:
                toy.api.delete(name)
                threading.Timer(0.1, toy.apply).start()
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)


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
        monkeypatch.setattr(conductor, "POLL", 0.05)
        toy.api.longest_watch = 0.01
        Mortal.is_after = is_after
        for life in itertools.count(1):
            Mortal.left = life
            try:
                Conductor(toy.stages, toy.storage, Mortal(Connection(), "toy")).run()
                break
            except Killed:
                toy.step()
        assert life > 5
        assert everything_ran(toy)

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
        assert everything_ran(toy)

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
        assert everything_ran(toy)

    def test_faults_at_random(self, toy: ToyCluster) -> None:
        random_fault = random.Random(7)
        answers = [Answer(500), Answer(429), Answer(403), Answer(401), Answer(504), Answer(200, cut=3), HANG_UP]
        toy.api.fault = lambda request: random_fault.choice(answers) if random_fault.random() < 0.3 else None
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)

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
        until(lambda: not is_suspended(toy, "prepare"))
        toy.api.down()
        time.sleep(0.8)
        assert thread.is_alive()
        toy.api.up()
        with toy.running():
            thread.join()
        assert everything_ran(toy)

    def test_a_server_that_was_never_there(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "PATIENCE", 0.1)
        toy.api.down()
        with pytest.raises(
            FtjobsError, match=r"^list jobs at http://127.0.0.1:\d+: .*refused.*; gave up after 0 s$"
        ) as failure:
            conduct(toy)
        assert failure.value.exit_code == 1

    def test_a_server_that_hangs(self, toy: ToyCluster) -> None:
        slow = itertools.count()

        def fault(request: Request) -> Answer | None:
            if request.verb in ("list", "patch") and next(slow) % 4 == 1:
                time.sleep(0.8)  # longer than the time-out
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)

    def test_watches_that_end_at_once(self, toy: ToyCluster) -> None:
        toy.api.longest_watch = 0.0
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)
        assert toy.api.count("watch") < 100

    def test_watches_from_a_version_that_is_forgotten(self, toy: ToyCluster) -> None:
        def fault(request: Request) -> Answer | None:
            if request.verb == "watch":
                toy.api.forget_history()
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert everything_ran(toy)

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
        assert everything_ran(toy)

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
        assert everything_ran(toy)

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
        until(lambda: not is_suspended(toy, "prepare"))
        toy.api.token = "second"
        token.write_text("second")
        with toy.running():
            thread.join()
        assert everything_ran(toy)

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
