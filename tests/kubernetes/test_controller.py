"""The whole conductor against an API server at the HTTP level, with a Job controller that publishes small artifacts."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes import controller
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, QUEUE
from tests.fakes.kubernetes_api import Answer, Request
from tests.fakes.toy_cluster import ToyCluster, conduct, toy_stages, until

pytestmark = pytest.mark.usefixtures("quick")
ALL = ["prepare", "adapt", "plain", "adapted", "report"]


class TestRunning:
    def test_a_pipeline_to_its_report(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        with toy.running():
            report = conduct(toy)
        assert report.stage == "report"
        assert toy.everything_ran()
        assert [toy.note(stage) for stage in ALL] == [None] * 5
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
        monkeypatch.setattr(controller, "POLL", 60.0)
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
        assert all(toy.is_suspended(stage) for stage in ALL)
        assert toy.note("adapt") == "published already; nothing to run"

    def test_jobs_of_another_job_file_are_left_alone(self, toy: ToyCluster, tmp_path: Path) -> None:
        others = ToyCluster(toy.api, toy_stages(tmp_path, "stages.adapt.epochs=7"), toy.storage, tmp_path)
        assert {one.name for one in others.stages} & {one.name for one in toy.stages} == {
            toy.named("prepare").name,
            toy.named("plain").name,
        }
        others.apply()
        with toy.running():
            conduct(toy)
        assert toy.api.patches(others.named("adapt").name) == []
        assert toy.everything_ran()

    def test_with_a_queue_the_label_is_set_and_suspend_left_to_kueue(self, toy: ToyCluster) -> None:
        adapt = toy.named("adapt").name
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
        assert toy.everything_ran()
        assert all("spec" not in patch for stage in toy.stages for patch in toy.api.patches(stage.name))
        assert queues == {stage.name: "big" if stage.stage == "adapt" else "gpus" for stage in toy.stages}


class TestSeveralPodsASeed:
    @pytest.fixture
    def toy(self, toy: ToyCluster, tmp_path: Path) -> ToyCluster:
        found = ToyCluster(toy.api, toy_stages(tmp_path, nodes=2), toy.storage, tmp_path / "outputs")
        toy.api.jobs.clear()
        found.apply()
        return found

    def test_each_seed_goes_its_way(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()
        for line in ("adapted seed 2: waits for prepare, adapt", "adapted seed 2: released", "report: released"):
            assert log.messages.count(line) == 1

    def test_a_seed_that_fails_keeps_back_its_own_and_the_report(self, toy: ToyCluster) -> None:
        fails = next(stage for stage in toy.stages if stage.title == "adapt seed 2")
        toy.api.change(
            fails.name, {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}}
        )
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.problems[0].startswith("adapt seed 2 failed: PodFailurePolicy")
        assert "; adapted seed 2, report will not run without; " in failure.value.problems[1]
        assert set(toy.ran) == {"prepare", "adapt seed 1", "adapted seed 1", "plain seed 1", "plain seed 2"}

    def test_a_conductor_of_one_pod_a_seed_says_that_it_finds_nothing(self, toy: ToyCluster, tmp_path: Path) -> None:
        one = ToyCluster(toy.api, toy_stages(tmp_path), toy.storage, tmp_path)
        toy.api.jobs.pop(toy.named("prepare").name)
        toy.api.jobs.pop(toy.named("report").name)
        with pytest.raises(UserError, match="those it has belong to another job file, or other --set or --nodes"):
            conduct(one)


class TestFailures:
    def test_a_failed_stage_blocks_what_reads_it_and_nothing_else(self, toy: ToyCluster) -> None:
        toy.fails["adapt"] = {1}
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.exit_code == 1
        adapt = toy.named("adapt").name
        assert failure.value.problems == [
            f"adapt failed: FailedIndexes: Job has failed indexes; its log: `kubectl --namespace team logs job/{adapt}`",
            "nothing more can run; adapted, report will not run without; mend it and submit the job again, or delete "
            f"job/{adapt} and the conductor's Job and apply again",
        ]
        assert {"plain seed 1", "plain seed 2", "adapt seed 1"} <= set(toy.ran)
        assert not {"adapted seed 1", "report"} & set(toy.ran)
        assert toy.is_suspended("adapted")
        assert (
            toy.note("adapted") == toy.note("report") == "blocked: adapt failed: FailedIndexes: Job has failed indexes"
        )

    def test_the_reason_is_the_one_that_the_stage_has_left_in_storage(self, toy: ToyCluster, tmp_path: Path) -> None:
        run = toy.named("adapt").runs[1]
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
        assert str(toy.note("report")).endswith("adapt seed 2: out of memory")

    def test_a_seed_that_fails_blocks_at_once_while_others_go_on(self, toy: ToyCluster) -> None:
        toy.fails["adapt"] = {0}
        for _ in range(2):  # prepare, and its end
            toy.api.change(toy.named("prepare").name, {"spec": {"suspend": False}})
            toy.step()
        toy.api.change(toy.named("adapt").name, {"spec": {"suspend": False}})
        toy.step()

        def fail() -> None:
            with pytest.raises(FtjobsError):
                conduct(toy)

        thread = threading.Thread(target=fail)
        thread.start()
        until(lambda: toy.note("adapted") == "blocked: adapt failed: no more tries for adapt seed 1")
        assert thread.is_alive()
        with toy.running():
            thread.join()
        assert "adapt seed 2" in toy.ran

    def test_a_broken_manifest_is_why_a_stage_fails(self, toy: ToyCluster, tmp_path: Path) -> None:
        run = toy.named("plain").runs[0]
        (tmp_path / "broken").write_text("{")
        toy.storage.put(tmp_path / "broken", f"{run.key}/manifest.json")
        toy.api.change(
            toy.named("plain").name,
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
        with pytest.raises(UserError, match="those it has belong to another job file, or other --set or --nodes"):
            conduct(toy)

    def test_jobs_that_are_applied_a_moment_later(self, toy: ToyCluster) -> None:
        for stage in toy.stages:
            toy.api.delete(stage.name)
        timer = threading.Timer(0.2, toy.apply)
        timer.start()
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()


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
        assert toy.everything_ran()

    def test_applied_again_when_a_stage_was_about_to_end(self, toy: ToyCluster) -> None:
        prepare = toy.named("prepare")
        toy.api.change(prepare.name, {"spec": {"suspend": False}})
        toy.publish(prepare, 0)
        toy.apply()
        with toy.running():
            conduct(toy)
            until(lambda: all("conditions" in job.get("status", {}) for job in toy.api.jobs.values()))
        assert [toy.note(stage) for stage in ALL] == [None] * 5

    def test_a_deleted_job_that_is_needed_no_more(self, toy: ToyCluster) -> None:
        def delete() -> None:
            until(lambda: "plain seed 1" in toy.ran)
            toy.api.delete(toy.named("prepare").name)

        thread = threading.Thread(target=delete)
        thread.start()
        with toy.running():
            conduct(toy)
        thread.join()
        assert toy.everything_ran()

    def test_a_deleted_job_counts_as_failed(self, toy: ToyCluster) -> None:
        name = toy.named("adapt").name
        toy.api.delete(name)
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.problems[0] == f"adapt failed: its Job {name} is not there; apply the manifests again"
        assert "plain seed 2" in toy.ran

    def test_a_deleted_job_that_is_applied_again_runs(self, toy: ToyCluster) -> None:
        toy.api.delete(toy.named("adapt").name)
        toy.api.fault = lambda request: None
        stuck = ToyCluster(toy.api, [one for one in toy.stages if one.stage == "prepare"], toy.storage, toy.folder)
        thread = threading.Thread(target=conduct, args=(toy,))
        thread.start()
        with stuck.running():  # `plain` may run, but does not end: the pipeline is not over
            until(lambda: str(toy.note("adapted")).startswith("blocked: adapt failed: its Job"))
        toy.apply()
        with toy.running():
            thread.join()
        assert {*toy.ran, *stuck.ran} == {run.title for stage in toy.stages for run in stage.runs}

    def test_a_job_deleted_between_looking_and_patching(self, toy: ToyCluster) -> None:
        name = toy.named("prepare").name

        def fault(request: Request) -> Answer | None:
            if request.verb == "patch" and request.name == name and toy.api.count("patch") == 1:
                toy.api.delete(name)
                threading.Timer(0.1, toy.apply).start()
            return None

        toy.api.fault = fault
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()
