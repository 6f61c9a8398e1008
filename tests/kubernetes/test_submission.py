"""`ftjobs submit` against an API server over HTTP: created, unchanged, replaced and kept objects, and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftjobs import cli
from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes import submission
from ftjobs.system.progress import LOG
from tests.fakes.kubernetes_apply import ApplyServer, running
from tests.helpers.messages import mentions

JOB = """\
name: small
encoder: {model: me/encoder}
data: {source: me/pairs, text: [a, b], label: same, split: {test_fraction: 0.1}}
seeds: [1, 2]
stages:
  adapt: {kind: adapt, epochs: 2}
  head: {kind: classify, encoder: adapt, epochs: 4}
  plain: {kind: classify}
"""
OPTIONS = ["--image", "ftjobs:0.1.0", "--store", "s3://bucket/runs"]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ApplyServer]:
    with running(ApplyServer()) as server:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(submission, "_POLL_SECONDS", 0.05)
        (tmp_path / "job.yaml").write_text(JOB)
        yield server


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command; return its exit code, the result by object, and stderr."""

    def run(*arguments: str) -> tuple[int, dict[str, str], str]:
        monkeypatch.setattr("sys.argv", ["ftjobs", "submit", "job.yaml", *OPTIONS, *arguments])
        monkeypatch.setattr(LOG, "handlers", [])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        outcomes = {line.split()[1]: line.split()[0] for line in printed.out.splitlines()}
        return int(end.value.code or 0), outcomes, printed.err

    return run


def stages(outcomes: dict[str, str]) -> dict[str, str]:
    """Results of the Jobs, by stage."""
    return {name.split("/")[1].split("-")[1]: result for name, result in outcomes.items() if name.startswith("job/")}


def server_address(server: ApplyServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def name_of(server: ApplyServer, stage: str) -> str:
    return next(name for name in server.of_kind("Job") if name.startswith(f"small-{stage}-"))


def test_second_submission_changes_nothing(server, submit):
    code, first, _ = submit()
    assert code == 0
    assert set(first.values()) == {"created"}
    assert stages(first).keys() == {"prepare", "adapt", "head", "plain", "report", "conductor"}
    assert len(server.objects) == len(first)
    before = {path: dict(manifest) for path, manifest in server.objects.items()}
    code, second, _ = submit()
    assert (code, set(second.values())) == (0, {"unchanged"})
    assert server.objects == before


def test_seeds_on_several_nodes_have_separate_jobs(server, submit):
    code, outcomes, _ = submit("--nodes", "2")
    assert code == 0
    assert set(outcomes.values()) == {"created"}
    assert "service/ftjobs-machines" in outcomes
    assert {name.rsplit("-", 1)[0] for name in outcomes if name.startswith("job/small-adapt")} == {
        "job/small-adapt-1",
        "job/small-adapt-2",
    }
    assert set(submit("--nodes", "2")[1].values()) == {"unchanged"}


def test_running_pipeline_is_unchanged(server, submit):
    submit()
    released = server.of_kind("Job")[name_of(server, "adapt")]
    released["spec"]["suspend"] = False  # as the controller does
    server.requests.clear()
    _, outcomes, _ = submit()
    assert set(stages(outcomes).values()) == {"unchanged"}
    assert server.of_kind("Job")[name_of(server, "adapt")]["spec"]["suspend"] is False
    assert not [path for method, path in server.requests if method != "GET" and "/jobs/" in path]


def test_changed_job_file_adds_only_changed_stages(server, submit):
    submit()
    jobs = server.of_kind("Job")
    _, outcomes, _ = submit("--set", "stages.head.epochs=5")
    assert {name for name, result in outcomes.items() if name.startswith("job/") and result == "created"} == {
        f"job/{name}" for name in server.of_kind("Job") if name not in jobs
    }
    assert {stage for stage, result in stages(outcomes).items() if result == "created"} == {
        "head",
        "report",
        "conductor",
    }
    assert all(server.of_kind("Job")[name] == job for name, job in jobs.items())


def test_failed_job_and_controller_are_replaced(server, submit):
    submit()
    old_uids = {name: job["metadata"]["uid"] for name, job in server.of_kind("Job").items()}
    server.end(name_of(server, "prepare"), "Complete")
    server.end(name_of(server, "plain"), "Failed", reason="PodFailurePolicy")
    server.end(name_of(server, "conductor"), "Complete")
    server.deletes_left = 3
    _, outcomes, _ = submit()
    assert {stage for stage, result in stages(outcomes).items() if result == "again"} == {"plain", "conductor"}
    changed = {
        name.split("-")[1] for name, job in server.of_kind("Job").items() if job["metadata"]["uid"] != old_uids[name]
    }
    assert changed == {"plain", "conductor"}
    assert "status" not in server.of_kind("Job")[name_of(server, "plain")]


def test_complete_pipeline_is_unchanged(server, submit):
    submit()
    for name in server.of_kind("Job"):
        server.end(name, "Complete")
    _, outcomes, _ = submit()
    assert set(outcomes.values()) == {"unchanged"}


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--image", "ftjobs:0.2.0"], {"adapt", "head", "plain", "report", "conductor"}),
        (["--gpus", "1"], {"adapt", "head", "plain"}),
        (["--nodes", "2"], {"conductor"}),  # the Jobs of the stages have other names
    ],
)
def test_unfinished_jobs_with_other_options_are_kept_with_a_warning(server, submit, options, kept):
    submit()
    server.end(name_of(server, "prepare"), "Complete")
    before = dict(server.of_kind("Job"))
    _, outcomes, stderr = submit(*options)
    assert {stage for stage, result in stages(outcomes).items() if result == "kept"} == kept
    warning = stderr.splitlines()[-1]
    assert f"{len(kept)} unfinished Jobs" in warning
    assert "`kubectl --namespace default delete jobs --selector ftjobs/pipeline=small`" in warning
    assert {name: job for name, job in server.of_kind("Job").items() if name in before} == before


def test_other_store_changes_only_the_settings(server, submit):
    submit()
    _, outcomes, _ = submit("--store", "s3://other/runs")
    assert {name for name, result in outcomes.items() if result != "unchanged"} == {"configmap/small-settings"}
    assert outcomes["configmap/small-settings"] == "changed"


def test_dry_run_validates_on_the_server_without_changes(server, submit):
    code, outcomes, _ = submit("--dry-run", "--wait")
    assert (code, set(outcomes.values()), server.objects) == (0, {"created"}, {})
    assert [method for method, path in server.requests if path.endswith("small-settings")] == ["GET", "PATCH"]
    submit()
    server.end(name_of(server, "plain"), "Failed")
    before = dict(server.objects)
    _, outcomes, _ = submit("--dry-run")
    assert stages(outcomes)["plain"] == "again"
    assert server.objects == before


def test_namespace_is_the_option_or_that_of_the_context(server, submit, tmp_path, monkeypatch):
    submit("--namespace", "team")
    assert all("/namespaces/team/" in path for path in server.objects)
    server.objects.clear()
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig", "team")))
    submit("--context", "here")
    assert all("/namespaces/team/" in path for path in server.objects)


def test_jobset_requires_its_controller(server, submit):
    code, _, error = submit("--engine", "jobset")
    assert code == 2
    assert server_address(server) in error
    assert "use --engine jobs" in error
    server.groups += ("apis/jobset.x-k8s.io/v1alpha2",)
    _, outcomes, _ = submit("--engine", "jobset")
    (name,) = server.of_kind("JobSet")
    assert outcomes[f"jobset/{name}"] == "created"
    assert submit("--engine", "jobset")[1][f"jobset/{name}"] == "unchanged"
    server.end(name, "Failed")
    assert submit("--engine", "jobset")[1][f"jobset/{name}"] == "again"


class TestWaiting:
    def start_after_submission(self, server: ApplyServer, *steps) -> threading.Thread:
        def act() -> None:
            while "conductor" not in "".join(server.of_kind("Job")):
                time.sleep(0.02)
            for step in steps:
                time.sleep(0.4)
                step()

        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def test_until_report_is_published(self, server, submit):
        def run_adapt() -> None:
            job = server.of_kind("Job")[name_of(server, "adapt")]
            job["spec"]["suspend"] = False
            job["status"] = {"ready": 2, "succeeded": 0}

        acting = self.start_after_submission(
            server,
            run_adapt,
            lambda: server.end(name_of(server, "adapt"), "Complete"),
            lambda: server.refuse.update({"GET jobs": (503, "shutting down")}),
            lambda: server.refuse.clear(),
            lambda: server.end(name_of(server, "conductor"), "Complete"),
        )
        code, _, error = submit("--wait")
        acting.join()
        assert code == 0
        progress = [line.split(" ", 1)[1] for line in error.splitlines() if " adapt: " in line]
        assert progress == ["adapt: waits", "adapt: running, 0 of 2 seeds done", "adapt: done"]
        assert mentions(error, "503", "shutting down", "retrying")
        assert error.splitlines()[-1].endswith("s3://bucket/runs")

    def test_until_a_stage_failed(self, server, submit):
        acting = self.start_after_submission(
            server,
            lambda: server.end(name_of(server, "plain"), "Failed", reason="PodFailurePolicy", message="exit code 2"),
            lambda: server.end(name_of(server, "conductor"), "Failed", reason="BackoffLimitExceeded"),
        )
        code, _, error = submit("--wait")
        acting.join()
        assert code == 1
        last = error.splitlines()[-1]
        assert last.startswith("error: plain failed: PodFailurePolicy: ")
        assert "exit code 2; " in last
        assert f"`kubectl --namespace default logs job/{name_of(server, 'plain')}`" in last

    def test_until_controller_failed(self, server, submit):
        condition = {"reason": "BackoffLimitExceeded", "message": "too often"}
        acting = self.start_after_submission(
            server, lambda: server.end(name_of(server, "conductor"), "Failed", **condition)
        )
        code, _, error = submit("--wait")
        acting.join()
        name = name_of(server, "conductor")
        last = error.splitlines()[-1]
        assert code == 1
        assert last.startswith(f"error: Job {name} failed: ")
        assert "BackoffLimitExceeded: too often; " in last
        assert f"`kubectl --namespace default logs job/{name}`" in last

    def test_until_controller_was_deleted(self, server, submit):
        acting = self.start_after_submission(server, server.objects.clear)
        code, _, error = submit("--wait")
        acting.join()
        assert code == 1
        assert "was deleted; submit" in error


class TestErrors:
    @pytest.mark.parametrize(
        ("refuse", "code", "message"),
        [
            (
                {"PATCH configmaps": (403, 'configmaps "x" is forbidden: User "me" cannot patch')},
                2,
                'User "me" cannot patch',
            ),
            ({"PATCH jobs": (403, "exceeded quota: gpus, requested: 8, limited: 4")}, 2, "exceeded quota: gpus"),
            ({"PATCH jobs": (422, "spec.parallelism: Invalid value")}, 2, "spec.parallelism: Invalid value"),
            ({"GET serviceaccounts": (401, "Unauthorized")}, 2, "Unauthorized"),
            ({"GET serviceaccounts": (500, "etcd is gone")}, 1, "etcd is gone"),
        ],
    )
    def test_server_error_is_one_line(self, server, submit, refuse, code, message):
        server.refuse = refuse
        exit_code, _, error = submit()
        assert exit_code == code
        assert len(error.splitlines()) == 1
        assert error.startswith("error: ")
        assert message in error
        assert mentions(error, "namespace default", server_address(server))

    def test_missing_namespace_is_named_with_a_command(self, server, submit):
        code, _, error = submit("--namespace", "nowhere")
        assert (code, len(error.splitlines())) == (2, 1)
        assert "`kubectl create namespace nowhere`" in error

    def test_unavailable_server_is_one_error_line(self, server, submit, tmp_path, monkeypatch):
        silent = ApplyServer(port=1)
        monkeypatch.setenv("KUBECONFIG", str(silent.kubeconfig(tmp_path / "silent")))
        code, _, error = submit()
        assert (code, len(error.splitlines())) == (1, 1)
        assert "refused" in error

    @pytest.mark.parametrize("content", [None, "", "{}", "not: [yaml", "apiVersion: v1"])
    def test_unusable_kubeconfig_is_one_error_line(self, submit, tmp_path, monkeypatch, content):
        (tmp_path / "job.yaml").write_text(JOB)
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        path = tmp_path / "kubeconfig"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv("KUBECONFIG", str(path))
        code, _, error = submit()
        assert (code, len(error.splitlines())) == (2, 1), error

    def test_missing_context_is_one_error_line(self, server, submit):
        code, _, error = submit("--context", "elsewhere")
        assert (code, len(error.splitlines())) == (2, 1)
        assert "elsewhere" in error


def test_wait_for_deletion_is_limited(server, submit, monkeypatch):
    submit()
    server.end(name_of(server, "plain"), "Failed")
    server.deletes_left = 10_000
    monkeypatch.setattr(submission, "_SECONDS_TO_DELETE", 0.5)
    code, _, error = submit()
    assert code == FtjobsError.exit_code != UserError.exit_code
    assert name_of(server, "plain") in error
