"""Exit codes, --help, --version and --store, which are the same for all commands."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from ftjobs import __version__, artifacts, cli
from ftjobs.cli.app import COMMANDS
from ftjobs.errors import ExitCode, FtjobsError
from ftjobs.execution import runner
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET, READER_ACCESS_KEY, READER_SECRET_KEY
from tests.helpers.commands import (
    JOB,
    METRICS,
    plan_job,
    publish,
    run_installed,
)

pytestmark = pytest.mark.usefixtures("job_folder")


class TestExitCodes:
    def test_0_for_help(self):
        result = run_installed("--help")
        assert result.exit_code == ExitCode.DONE
        assert all(command in result.stdout for command in ("run", "stage", "plan", "status", "report", "ls", "pull"))

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["nonsense"],
            ["plan"],
            ["plan", "job.yaml", "--nonsense"],
            ["plan", "job.yaml", "--set"],
            ["pull", "job.yaml", "head"],
            ["stage", "job.yaml", "head", "--seed", "x"],
        ],
    )
    def test_2_for_invalid_arguments(self, ftjobs, arguments):
        result = ftjobs(*arguments)
        assert result.exit_code == 2
        assert "Traceback" not in result.stderr

    @pytest.mark.parametrize("command", ["run", "plan", "status", "report", "ls"])
    def test_2_for_invalid_job_file(self, ftjobs, command):
        Path("wrong.yaml").write_text(JOB.replace("epochs: 2", "epochs: two").replace("seeds", "seedz"))
        result = ftjobs(command, "wrong.yaml")
        assert result.exit_code == 2
        unknown_key, wrong_type = result.errors
        assert unknown_key.startswith("wrong.yaml:4: seedz: ")
        assert "mean `seeds`" in unknown_key
        assert wrong_type.startswith("wrong.yaml:6: stages.adapt.epochs: ")
        assert "'two'" in wrong_type

    def test_2_prints_error_lines_only(self):
        result = run_installed("plan", "job.yaml", "--set", "seeds=[1, x]")
        assert result.exit_code == 2
        (error,) = result.errors
        assert error.startswith("--set seeds=[1, x]: seeds.1: ")
        assert "'x'" in error

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["plan", "none.yaml"], "none.yaml: "),
            (["plan", "x" * 5000], "x" * 5000 + ": "),
            (["plan", "."], ".: is a folder; "),
            (["plan", "job.yaml", "--set", "data.source=a.csv"], "data.source: there is no file or folder 'a.csv'"),
            (["plan", "job.yaml", "--store", "gs://b/p"], "--store gs://b/p: unsupported scheme"),
            (["ls", "--store", "job.yaml"], "--store job.yaml: job.yaml is a file"),
            (["ls", "--store", "job.yaml/below"], "--store job.yaml/below: job.yaml is a file"),
            (["ls", "--store", "~nobody-here/x"], "--store ~nobody-here/x: no such user"),
            (["stage", "job.yaml", "haed"], "there is no stage `haed`; the stages are: prepare, adapt, head, report"),
            (["stage", "job.yaml", "head"], "stage `head` has the seeds 1, 2; choose one with --seed"),
            (["stage", "job.yaml", "head", "--seed", "3"], "stage `head` has no seed 3; its seeds are: 1, 2"),
            (["pull", "job.yaml", "haed", "new"], "there is no stage `haed`"),
            (["pull", "job.yaml", "head", "new", "--seed", "3"], "stage `head` has no seed 3"),
        ],
    )
    def test_2_for_errors_that_a_retry_cannot_fix(self, ftjobs, arguments, message):
        result = ftjobs(*arguments)
        assert result.exit_code == 2
        (error,) = result.errors
        assert error.startswith(message)

    @pytest.mark.parametrize(
        "arguments",
        [
            ["pull", "job.yaml", "head", "new", "--seed", "1"],
            ["stage", "job.yaml", "head", "--seed", "1"],
            ["stage", "job.yaml", "report"],
            ["report", "job.yaml"],
        ],
    )
    def test_75_for_unpublished_inputs(self, ftjobs, arguments):
        result = ftjobs(*arguments)
        assert result.exit_code == 75
        (error,) = result.errors
        assert "runs/small/" in error
        assert not Path("runs").exists()

    def test_1_for_corrupt_artifact(self, ftjobs):
        (manifest, _) = publish("head")
        Path("runs", manifest.folder, "model/tokenizer.json").write_text("{}")
        result = ftjobs("pull", "job.yaml", "head", "new", "--seed", "1")
        assert result.exit_code == 1
        assert result.errors[0].startswith(f"runs/{manifest.folder}/model/tokenizer.json ")
        assert "sha256" in result.errors[0]
        assert not Path("new").exists()

    def test_1_for_errors_of_the_operating_system(self, ftjobs):
        publish("head")
        result = ftjobs("pull", "job.yaml", "head", "/proc/new", "--seed", "1")  # folders cannot be created there
        assert result.exit_code == 1
        assert result.errors[0].startswith("/proc")

    def test_control_characters_in_errors_are_escaped(self, ftjobs):
        (problem,) = ftjobs("plan", "job.yaml", "--set", "a\nb\x1b[31m=1").errors
        assert problem.startswith("--set a\\nb\\x1b[31m=1: unknown key")


def test_error_has_one_line_per_problem():
    assert FtjobsError(["a\nb", "c\td"]).problems == ["a\\nb", "c\\td"]
    assert str(FtjobsError(["a\nb", "c"])) == "a\\nb\nc"


class TestHelp:
    def test_lists_commands_in_order_of_use(self):
        text = run_installed("--help").stdout
        listed = re.findall(r"^  (\w+)  ", text[text.index("Commands:") :], re.MULTILINE)
        assert listed == list(COMMANDS)
        assert listed[:4] == ["run", "plan", "status", "report"]
        assert "..." not in text.replace("[ARGS]...", "")  # no summary is truncated
        assert set(listed) == set(get_command(cli.app).commands)

    @pytest.mark.parametrize("name", COMMANDS)
    def test_example_of_command_is_valid(self, name):
        command = get_command(cli.app).commands[name]
        assert "Example:" in command.get_help(command.context_class(command, info_name=name))
        example = shlex.split(command.epilog.partition("Example:")[2].partition("|")[0].partition(">")[0])
        assert example[:2] == ["ftjobs", name]
        command.make_context(name, example[2:])  # exits with 2 for unknown options or missing arguments

    def test_version_prints_the_package_version(self):
        assert run_installed("--version").stdout == f"ftjobs {__version__}\n"


class TestStore:
    def test_is_runs_by_default(self, ftjobs):
        publish("prepare", store="runs")
        assert [artifact["where"].split("/")[0] for artifact in json.loads(ftjobs("ls", "--json").stdout)] == ["runs"]

    def test_comes_from_the_environment(self, ftjobs, monkeypatch):
        publish("prepare", store="elsewhere")
        monkeypatch.setenv("FTJOBS_STORE", "elsewhere")
        assert len(json.loads(ftjobs("ls", "--json").stdout)) == 1
        assert json.loads(ftjobs("ls", "--json", "--store", "runs").stdout) == []

    @pytest.mark.parametrize("command", ["plan", "status", "ls"])
    def test_environment_variable_equals_option(self, command):
        publish("prepare", store="elsewhere")
        result = run_installed(command, "job.yaml", "--json", FTJOBS_STORE="elsewhere")
        assert result.stdout == run_installed(command, "job.yaml", "--json", "--store", "elsewhere").stdout
        assert result.stdout != run_installed(command, "job.yaml", "--json", "--store", "empty").stdout

    @pytest.mark.parametrize("arguments", [["plan", "job.yaml"], ["status", "job.yaml"], ["ls"], ["ls", "job.yaml"]])
    def test_read_only_commands_create_no_store(self, ftjobs, arguments):
        assert ftjobs(*arguments).exit_code == 0
        assert not Path("runs").exists()


class TestUnusableStore:
    """The first command that writes reports it in one line with the remedy, before any work."""

    @pytest.mark.parametrize(
        ("settings", "bucket", "message"),
        [
            ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, BUCKET, "set AWS_ACCESS_KEY_ID"),
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, BUCKET, "check AWS_SECRET_ACCESS_KEY"),
            ({}, "no-such-bucket", "no such bucket"),
            (
                {"AWS_ACCESS_KEY_ID": READER_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET_KEY},
                BUCKET,
                "s3:PutObject",
            ),
        ],
        ids=["no credentials", "wrong credentials", "no such bucket", "no right to write"],
    )
    @pytest.mark.parametrize("command", [["run", "job.yaml"], ["stage", "job.yaml", "adapt", "--seed", "1"]])
    def test_2_before_any_work(self, ftjobs, s3, tmp_path, monkeypatch, command, settings, bucket, message):
        prepare = plan_job()[0]
        output = tmp_path / "output"
        output.mkdir()
        artifacts.publish(open_storage(f"s3://{BUCKET}/{tmp_path.name}"), prepare, output, METRICS["prepare"], {})
        monkeypatch.setattr(runner, "_produce", lambda *_: pytest.fail("a stage was run"))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        result = ftjobs(*command, "--store", f"s3://{bucket}/{tmp_path.name}")
        assert result.exit_code == 2
        assert result.stdout == ""
        (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert message in error
        started = [line for line in result.stderr.splitlines() if not line.startswith("error: ")]
        assert all(re.search(r"\[\d/\d+\] ", line) for line in started), result.stderr
