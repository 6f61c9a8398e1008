"""`ftjobs submit` against an API server over HTTP: what is made, what is left alone, what is made again, and errors."""

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
    with running(ApplyServer()) as found:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("KUBECONFIG", str(found.kubeconfig(tmp_path / "kubeconfig")))
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        monkeypatch.setattr(submission, "_SECONDS_BETWEEN_LOOKS", 0.05)
        (tmp_path / "job.yaml").write_text(JOB)
        yield found


@pytest.fixture
def submit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs the command; returns its exit code, what became of each object, and stderr."""

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
    """What became of the Jobs, by stage."""
    return {name.split("/")[1].split("-")[1]: what for name, what in outcomes.items() if name.startswith("job/")}


def name_of(server: ApplyServer, stage: str) -> str:
    return next(name for name in server.of_kind("Job") if name.startswith(f"small-{stage}-"))


def test_everything_is_made_once(server, submit):
    code, first, _ = submit()
    assert code == 0
    assert set(first.values()) == {"created"}
    assert stages(first).keys() == {"prepare", "adapt", "head", "plain", "report", "conductor"}
    assert len(server.objects) == len(first)
    before = {path: dict(found) for path, found in server.objects.items()}
    code, second, _ = submit()
    assert (code, set(second.values())) == (0, {"unchanged"})
    assert server.objects == before


def test_several_pods_a_seed(server, submit):
    code, outcomes, _ = submit("--nodes", "2")
    assert code == 0
    assert set(outcomes.values()) == {"created"}
    assert "service/ftjobs-machines" in outcomes
    assert {name.rsplit("-", 1)[0] for name in outcomes if name.startswith("job/small-adapt")} == {
        "job/small-adapt-1",
        "job/small-adapt-2",
    }
    assert set(submit("--nodes", "2")[1].values()) == {"unchanged"}


def test_a_pipeline_that_runs_is_left_alone(server, submit):
    submit()
    released = server.of_kind("Job")[name_of(server, "adapt")]
    released["spec"]["suspend"] = False  # as the conductor does
    server.requests.clear()
    _, outcomes, _ = submit()
    assert set(stages(outcomes).values()) == {"unchanged"}
    assert server.of_kind("Job")[name_of(server, "adapt")]["spec"]["suspend"] is False
    assert not [path for method, path in server.requests if method != "GET" and "/jobs/" in path]


def test_a_changed_job_file_adds_only_what_changed(server, submit):
    submit()
    jobs = server.of_kind("Job")
    _, outcomes, _ = submit("--set", "stages.head.epochs=5")
    assert {name for name, what in outcomes.items() if name.startswith("job/") and what == "created"} == {
        f"job/{name}" for name in server.of_kind("Job") if name not in jobs
    }
    assert {stage for stage, what in stages(outcomes).items() if what == "created"} == {"head", "report", "conductor"}
    assert all(server.of_kind("Job")[name] == job for name, job in jobs.items())


def test_what_failed_is_made_again_and_its_conductor_with_it(server, submit):
    submit()
    old = {name: job["metadata"]["uid"] for name, job in server.of_kind("Job").items()}
    server.end(name_of(server, "prepare"), "Complete")
    server.end(name_of(server, "plain"), "Failed", reason="PodFailurePolicy")
    server.end(name_of(server, "conductor"), "Complete")
    server.deletes_left = 3
    _, outcomes, _ = submit()
    assert {stage for stage, what in stages(outcomes).items() if what == "again"} == {"plain", "conductor"}
    changed = {name.split("-")[1] for name, job in server.of_kind("Job").items() if job["metadata"]["uid"] != old[name]}
    assert changed == {"plain", "conductor"}
    assert "status" not in server.of_kind("Job")[name_of(server, "plain")]


def test_a_pipeline_that_is_through_stays_so(server, submit):
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
        (["--nodes", "2"], {"conductor"}),  # the stages' Jobs have other names
    ],
)
def test_what_cannot_be_changed_is_said(server, submit, options, kept):
    submit()
    server.end(name_of(server, "prepare"), "Complete")
    before = dict(server.of_kind("Job"))
    _, outcomes, said = submit(*options)
    assert {stage for stage, what in stages(outcomes).items() if what == "kept"} == kept
    assert said.splitlines()[-1].endswith(
        f"kept as they are: {len(kept)} Jobs that were made with another image or other options, and have not ended; to "
        "change them, `kubectl --namespace default delete jobs --selector ftjobs/pipeline=small` and submit again"
    )
    assert {name: job for name, job in server.of_kind("Job").items() if name in before} == before


def test_another_store_changes_the_settings_only(server, submit):
    submit()
    _, outcomes, _ = submit("--store", "s3://other/runs")
    assert {name for name, what in outcomes.items() if what != "unchanged"} == {"configmap/small-settings"}
    assert outcomes["configmap/small-settings"] == "changed"


def test_a_dry_run_changes_nothing_but_asks_the_server(server, submit):
    code, outcomes, _ = submit("--dry-run", "--wait")
    assert (code, set(outcomes.values()), server.objects) == (0, {"created"}, {})
    assert [method for method, path in server.requests if path.endswith(name_of_settings := "small-settings")] == [
        "GET",
        "PATCH",
    ], name_of_settings
    submit()
    server.end(name_of(server, "plain"), "Failed")
    before = dict(server.objects)
    _, outcomes, _ = submit("--dry-run")
    assert stages(outcomes)["plain"] == "again"
    assert server.objects == before


def test_the_namespace_is_the_one_given_or_that_of_the_context(server, submit, tmp_path, monkeypatch):
    submit("--namespace", "team")
    assert all("/namespaces/team/" in path for path in server.objects)
    server.objects.clear()
    monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path / "kubeconfig", "team")))
    submit("--context", "here")
    assert all("/namespaces/team/" in path for path in server.objects)


def test_a_jobset_where_the_cluster_has_them(server, submit):
    code, _, error = submit("--engine", "jobset")
    assert code == 2
    assert "does not know JobSets; install their controller, or use --engine jobs" in error
    server.groups += ("apis/jobset.x-k8s.io/v1alpha2",)
    _, outcomes, _ = submit("--engine", "jobset")
    (name,) = server.of_kind("JobSet")
    assert outcomes[f"jobset/{name}"] == "created"
    assert submit("--engine", "jobset")[1][f"jobset/{name}"] == "unchanged"
    server.end(name, "Failed")
    assert submit("--engine", "jobset")[1][f"jobset/{name}"] == "again"


class TestWaiting:
    def after_submission(self, server: ApplyServer, *steps) -> threading.Thread:
        def act() -> None:
            while "conductor" not in "".join(server.of_kind("Job")):
                time.sleep(0.02)
            for step in steps:
                time.sleep(0.4)
                step()

        thread = threading.Thread(target=act)
        thread.start()
        return thread

    def test_until_the_report_is_published(self, server, submit):
        def adapt_runs() -> None:
            job = server.of_kind("Job")[name_of(server, "adapt")]
            job["spec"]["suspend"] = False
            job["status"] = {"ready": 2, "succeeded": 0}

        acting = self.after_submission(
            server,
            adapt_runs,
            lambda: server.end(name_of(server, "adapt"), "Complete"),
            lambda: server.refuse.update({"GET jobs": (503, "shutting down")}),
            lambda: server.refuse.clear(),
            lambda: server.end(name_of(server, "conductor"), "Complete"),
        )
        code, _, error = submit("--wait")
        acting.join()
        assert code == 0
        said = [line.split(" ", 1)[1] for line in error.splitlines() if " adapt: " in line]
        assert said == ["adapt: waits", "adapt: runs, 0 of 2 seeds done", "adapt: done"]
        assert "shutting down; trying again" in error
        assert "the report is published in s3://bucket/runs" in error

    def test_until_it_failed(self, server, submit):
        acting = self.after_submission(
            server,
            lambda: server.end(name_of(server, "plain"), "Failed", reason="PodFailurePolicy", message="exit code 2"),
            lambda: server.end(name_of(server, "conductor"), "Failed", reason="BackoffLimitExceeded"),
        )
        code, _, error = submit("--wait")
        acting.join()
        assert code == 1
        assert error.splitlines()[-1] == (
            f"error: plain failed: PodFailurePolicy: exit code 2; its log: `kubectl --namespace default logs "
            f"job/{name_of(server, 'plain')}`"
        )

    def test_until_what_runs_it_failed(self, server, submit):
        why = {"reason": "BackoffLimitExceeded", "message": "too often"}
        acting = self.after_submission(server, lambda: server.end(name_of(server, "conductor"), "Failed", **why))
        code, _, error = submit("--wait")
        acting.join()
        name = name_of(server, "conductor")
        assert (code, error.splitlines()[-1]) == (
            1,
            f"error: Job {name} failed: BackoffLimitExceeded: too often; its log: `kubectl --namespace default logs job/{name}`",
        )

    def test_until_it_was_deleted(self, server, submit):
        acting = self.after_submission(server, server.objects.clear)
        code, _, error = submit("--wait")
        acting.join()
        assert code == 1
        assert "was deleted; submit the job again" in error


class TestRefusals:
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
    def test_are_one_line(self, server, submit, refuse, code, message):
        server.refuse = refuse
        found, _, error = submit()
        assert found == code
        assert len(error.splitlines()) == 1
        assert error.startswith("error: ")
        assert message in error
        assert "in namespace default at http://127.0.0.1" in error

    def test_no_such_namespace(self, server, submit):
        code, _, error = submit("--namespace", "nowhere")
        assert (code, len(error.splitlines())) == (2, 1)
        assert "has no namespace nowhere; make it with `kubectl create namespace nowhere`" in error

    def test_no_server(self, server, submit, tmp_path, monkeypatch):
        silent = ApplyServer(port=1)
        monkeypatch.setenv("KUBECONFIG", str(silent.kubeconfig(tmp_path / "silent")))
        code, _, error = submit()
        assert (code, len(error.splitlines())) == (1, 1)
        assert "refused" in error

    @pytest.mark.parametrize("content", [None, "", "{}", "not: [yaml", "apiVersion: v1"])
    def test_no_kubeconfig(self, submit, tmp_path, monkeypatch, content):
        (tmp_path / "job.yaml").write_text(JOB)
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        path = tmp_path / "kubeconfig"
        if content is not None:
            path.write_text(content)
        monkeypatch.setenv("KUBECONFIG", str(path))
        code, _, error = submit()
        assert (code, len(error.splitlines())) == (2, 1), error

    def test_no_such_context(self, server, submit):
        code, _, error = submit("--context", "elsewhere")
        assert (code, len(error.splitlines())) == (2, 1)
        assert "elsewhere" in error


def test_a_deletion_that_takes_too_long_is_no_endless_wait(server, submit, monkeypatch):
    submit()
    server.end(name_of(server, "plain"), "Failed")
    server.deletes_left = 10_000
    monkeypatch.setattr(submission, "_SECONDS_TO_DELETE", 0.5)
    code, _, error = submit()
    assert code == FtjobsError.exit_code != UserError.exit_code
    assert "is still being deleted; submit again later" in error
