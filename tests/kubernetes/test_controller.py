"""The controller against an API server over HTTP, with a fake Job controller that publishes small artifacts."""

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
from tests.helpers.messages import mentions

pytestmark = pytest.mark.usefixtures("short_waits")
ALL = ["prepare", "adapt", "plain", "adapted", "report"]


class TestRunning:
    def test_pipeline_runs_to_its_report(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        with toy.running():
            report = conduct(toy)
        assert report.stage == "report"
        assert toy.everything_ran()
        assert [toy.suspend_reason(stage) for stage in ALL] == [None] * 5
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

    def test_watch_detects_changes_before_the_next_poll(self, toy: ToyCluster, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(controller, "POLL", 60.0)
        started = time.monotonic()
        with toy.running():
            conduct(toy)
        assert time.monotonic() - started < 10

    def test_polling_detects_artifacts_published_outside_the_cluster(self, toy: ToyCluster) -> None:
        thread = threading.Thread(
            target=lambda: [toy.publish(stage, index) for stage in toy.stages for index in range(len(stage.runs))]
        )
        thread.start()
        conduct(toy)
        thread.join()
        assert toy.ran == []

    def test_published_pipeline_ends_without_running_jobs(self, toy: ToyCluster) -> None:
        for stage in toy.stages:
            for index in range(len(stage.runs)):
                toy.publish(stage, index)
        conduct(toy)
        assert all(toy.is_suspended(stage) for stage in ALL)
        assert toy.suspend_reason("adapt") == "already published; nothing to run"

    def test_jobs_of_another_job_file_are_not_patched(self, toy: ToyCluster, tmp_path: Path) -> None:
        others = ToyCluster(toy.api, toy_stages(tmp_path, "stages.adapt.epochs=7"), toy.storage, tmp_path)
        assert {stage.name for stage in others.stages} & {stage.name for stage in toy.stages} == {
            toy.named("prepare").name,
            toy.named("plain").name,
        }
        others.apply()
        with toy.running():
            conduct(toy)
        assert toy.api.patches(others.named("adapt").name) == []
        assert toy.everything_ran()

    def test_queue_label_is_set_and_suspend_left_to_kueue(self, toy: ToyCluster) -> None:
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


class TestSeveralNodes:
    @pytest.fixture
    def toy(self, toy: ToyCluster, tmp_path: Path) -> ToyCluster:
        cluster = ToyCluster(toy.api, toy_stages(tmp_path, nodes=2), toy.storage, tmp_path / "outputs")
        toy.api.jobs.clear()
        cluster.apply()
        return cluster

    def test_each_seed_is_released_separately(self, toy: ToyCluster, log: pytest.LogCaptureFixture) -> None:
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()
        for line in ("adapted seed 2: waits for prepare, adapt", "adapted seed 2: released", "report: released"):
            assert log.messages.count(line) == 1

    def test_failed_seed_blocks_stages_of_that_seed_and_the_report(self, toy: ToyCluster) -> None:
        failing = next(stage for stage in toy.stages if stage.title == "adapt seed 2")
        toy.api.change(
            failing.name,
            {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]}},
        )
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.problems[0].startswith("adapt seed 2 failed: PodFailurePolicy")
        assert "; blocked: adapted seed 2, report; " in failure.value.problems[1]
        assert set(toy.ran) == {"prepare", "adapt seed 1", "adapted seed 1", "plain seed 1", "plain seed 2"}

    def test_controller_with_other_nodes_option_is_a_user_error(self, toy: ToyCluster, tmp_path: Path) -> None:
        single_node = ToyCluster(toy.api, toy_stages(tmp_path), toy.storage, tmp_path)
        toy.api.jobs.pop(toy.named("prepare").name)
        toy.api.jobs.pop(toy.named("report").name)
        with pytest.raises(UserError, match="--set or --nodes"):
            conduct(single_node)


class TestFailures:
    def test_failed_stage_blocks_only_stages_that_read_it(self, toy: ToyCluster) -> None:
        toy.fails["adapt"] = {1}
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert failure.value.exit_code == 1
        adapt = toy.named("adapt").name
        stage, remedy = failure.value.problems
        assert stage.startswith("adapt failed: FailedIndexes: ")
        assert f"`kubectl --namespace team logs job/{adapt}`" in stage
        assert "blocked: adapted, report; " in remedy
        assert f"delete job/{adapt} " in remedy
        assert {"plain seed 1", "plain seed 2", "adapt seed 1"} <= set(toy.ran)
        assert not {"adapted seed 1", "report"} & set(toy.ran)
        assert toy.is_suspended("adapted")
        assert str(toy.suspend_reason("adapted")).startswith("blocked: adapt failed: FailedIndexes: ")
        assert toy.suspend_reason("report") == toy.suspend_reason("adapted")

    def test_reason_includes_the_error_in_the_store(self, toy: ToyCluster, tmp_path: Path) -> None:
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
        assert str(toy.suspend_reason("report")).endswith("adapt seed 2: out of memory")

    def test_failed_seed_blocks_at_once_while_other_seeds_run(self, toy: ToyCluster) -> None:
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
        until(lambda: toy.suspend_reason("adapted") == "blocked: adapt failed: no retries left for adapt seed 1")
        assert thread.is_alive()
        with toy.running():
            thread.join()
        assert "adapt seed 2" in toy.ran

    def test_corrupt_artifact_manifest_is_the_reason(self, toy: ToyCluster, tmp_path: Path) -> None:
        run = toy.named("plain").runs[0]
        (tmp_path / "broken").write_text("{")
        toy.storage.put(tmp_path / "broken", f"{run.key}/manifest.json")
        toy.api.change(
            toy.named("plain").name,
            {"status": {"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]}},
        )
        with toy.running(), pytest.raises(FtjobsError, match=r"plain seed 1: .*invalid manifest"):
            conduct(toy)
        assert "adapted seed 1" in toy.ran

    def test_complete_job_without_artifacts_counts_as_failed(self, toy: ToyCluster) -> None:
        toy.forgets.add("adapt")
        with (
            toy.running(),
            pytest.raises(FtjobsError, match=r"adapt failed: .* complete .*adapt seed 1, adapt seed 2;"),
        ):
            conduct(toy)
        assert "plain seed 1" in toy.ran

    def test_missing_jobs_are_a_user_error(self, toy: ToyCluster, tmp_path: Path) -> None:
        for stage in toy.stages:
            toy.api.delete(stage.name)
        with pytest.raises(UserError, match=r"namespace team: .*toy; .*`ftjobs render`.*--namespace"):
            conduct(toy)
        ToyCluster(
            toy.api, toy_stages(tmp_path, "stages.adapt.epochs=7", "data.label=c"), toy.storage, tmp_path
        ).apply()
        with pytest.raises(UserError, match="--set or --nodes"):
            conduct(toy)

    def test_jobs_applied_within_the_grace_period_are_found(self, toy: ToyCluster) -> None:
        for stage in toy.stages:
            toy.api.delete(stage.name)
        timer = threading.Timer(0.2, toy.apply)
        timer.start()
        with toy.running():
            conduct(toy)
        assert toy.everything_ran()


class TestExternalChanges:
    def test_repeated_apply_does_not_stop_the_pipeline(self, toy: ToyCluster) -> None:
        """`kubectl apply` sets `suspend: true` again; the controller resumes the Jobs again."""
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

    def test_apply_before_a_job_completes_lets_it_complete(self, toy: ToyCluster) -> None:
        prepare = toy.named("prepare")
        toy.api.change(prepare.name, {"spec": {"suspend": False}})
        toy.publish(prepare, 0)
        toy.apply()
        with toy.running():
            conduct(toy)
            until(lambda: all("conditions" in job.get("status", {}) for job in toy.api.jobs.values()))
        assert [toy.suspend_reason(stage) for stage in ALL] == [None] * 5

    def test_deleted_job_with_published_artifacts_is_ignored(self, toy: ToyCluster) -> None:
        def delete() -> None:
            until(lambda: "plain seed 1" in toy.ran)
            toy.api.delete(toy.named("prepare").name)

        thread = threading.Thread(target=delete)
        thread.start()
        with toy.running():
            conduct(toy)
        thread.join()
        assert toy.everything_ran()

    def test_deleted_job_without_artifacts_counts_as_failed(self, toy: ToyCluster) -> None:
        name = toy.named("adapt").name
        toy.api.delete(name)
        with toy.running(), pytest.raises(FtjobsError) as failure:
            conduct(toy)
        assert mentions(failure.value.problems[0], "adapt failed: ", f"Job {name}", "apply")
        assert "plain seed 2" in toy.ran

    def test_deleted_job_runs_after_it_is_applied_again(self, toy: ToyCluster) -> None:
        toy.api.delete(toy.named("adapt").name)
        toy.api.fault = lambda request: None
        stuck = ToyCluster(
            toy.api, [stage for stage in toy.stages if stage.stage == "prepare"], toy.storage, toy.folder
        )
        thread = threading.Thread(target=conduct, args=(toy,))
        thread.start()
        with stuck.running():  # `plain` is released but never ends, so the pipeline stays active
            until(lambda: str(toy.suspend_reason("adapted")).startswith("blocked: adapt failed: its Job"))
        toy.apply()
        with toy.running():
            thread.join()
        assert {*toy.ran, *stuck.ran} == {run.title for stage in toy.stages for run in stage.runs}

    def test_job_deleted_between_list_and_patch(self, toy: ToyCluster) -> None:
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
