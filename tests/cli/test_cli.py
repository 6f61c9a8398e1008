import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftjobs import artifacts, cli
from ftjobs.artifacts import Manifest
from ftjobs.errors import FtjobsError
from ftjobs.execution import runner
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import LocalStorage, open_storage
from ftjobs.system.progress import LOG
from tests.fakes.s3_server import BUCKET, READER_ACCESS_KEY, READER_SECRET_KEY

JOB = """\
name: small
encoder: {model: me/encoder}
data: {source: me/pairs, text: [a, b], label: same, split: {test_fraction: 0.1}}
seeds: [1, 2]
stages:
  adapt: {kind: adapt, epochs: 2, per_device_batch_size: 16}
  head: {kind: classify, encoder: adapt, epochs: 4}
"""
METRICS: dict[str, dict[str, Any]] = {
    "prepare": {"rows": {"train": 100, "test": 12}},
    "adapt": {"before": {"perplexity": 30.0}, "best": {"perplexity": 7.26}, "best_epoch": 2},
    "classify": {"accuracy": 0.75, "f1": 0.5, "best_epoch": 3},
    "report": {"to_ship": {"stage": "head", "seed": 2, "artifact": "small/head/seed-2/0123456789ab"}},
}
FILES: dict[str, dict[str, str]] = {
    "prepare": {"data/summary.json": "{}"},
    "adapt": {"model/config.json": "{}", "metrics.json": "{}"},
    "classify": {"model/config.json": "{}", "model/tokenizer.json": "[]", "predictions.jsonl": ""},
    "report": {"report.md": "# small\n\nhead wins.\n", "report.json": "{}"},
}


class Result(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The error lines; there must be nothing else on stderr, and nothing on stdout."""
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines), self.stderr
        return [line.removeprefix("error: ") for line in lines]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FTJOBS_STORE", raising=False)
    Path("job.yaml").write_text(JOB)
    return tmp_path


@pytest.fixture
def ftjobs(monkeypatch, capsys):
    """Runs a command in this process."""
    for name in ("handlers", "level", "propagate"):  # a command that logs sets them for good
        monkeypatch.setattr(LOG, name, getattr(LOG, name))

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["ftjobs", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return Result(int(end.value.code or 0), captured.out, captured.err)

    return run


def in_a_process(*arguments: str, **environment: str) -> Result:
    """Runs the installed command."""
    command = [str(Path(sys.executable).parent / "ftjobs"), *arguments]
    found = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return Result(found.returncode, found.stdout, found.stderr)


def runs(*overrides: str) -> list[StageRun]:
    return plan(read(Path("job.yaml"), overrides))


def publish(*stages: str, store: str = "runs", overrides: Sequence[str] = ()) -> list[Manifest]:
    """Publish small artifacts for stages, each for all its seeds."""
    manifests = []
    for run in runs(*overrides):
        if run.stage in stages:
            folder = Path("outputs", run.stage, str(run.seed))
            for name, text in FILES[run.kind].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            manifests.append(artifacts.publish(LocalStorage(Path(store)), run, folder, METRICS[run.kind], {}))
    return manifests


def table(text: str) -> list[list[str]]:
    """Rows of a printed table as cells; columns stand two spaces apart."""
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in text.splitlines()]


class TestExitCodes:
    def test_0_for_help(self):
        found = in_a_process("--help")
        assert found.exit_code == 0
        assert all(command in found.stdout for command in ("run", "stage", "plan", "status", "report", "ls", "pull"))

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
    def test_2_for_arguments_that_are_none(self, ftjobs, arguments):
        found = ftjobs(*arguments)
        assert found.exit_code == 2
        assert "Traceback" not in found.stderr

    @pytest.mark.parametrize("command", ["run", "plan", "status", "report", "ls"])
    def test_2_for_a_job_file_that_is_wrong(self, ftjobs, command):
        Path("wrong.yaml").write_text(JOB.replace("epochs: 2", "epochs: two").replace("seeds", "seedz"))
        found = ftjobs(command, "wrong.yaml")
        assert found.exit_code == 2
        assert found.errors == [
            "wrong.yaml:4: seedz: unknown key; did you mean `seeds`?",
            "wrong.yaml:6: stages.adapt.epochs: should be a whole number, not 'two'",
        ]

    def test_2_with_nothing_but_error_lines(self):
        found = in_a_process("plan", "job.yaml", "--set", "seeds=[1, x]")
        assert found.exit_code == 2
        assert found.errors == ["--set seeds=[1, x]: seeds.1: should be a whole number, not 'x'"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["plan", "none.yaml"], "none.yaml: cannot read the job file: No such file or directory"),
            (["plan", "x" * 5000], "x" * 5000 + ": cannot read the job file: File name too long"),
            (["plan", "."], ".: is a folder; give the job file in it"),
            (["plan", "job.yaml", "--set", "data.source=a.csv"], "data.source: there is no file or folder 'a.csv'"),
            (["plan", "job.yaml", "--store", "gs://b/p"], "--store gs://b/p: no such kind of store"),
            (["ls", "--store", "job.yaml"], "--store job.yaml: job.yaml is a file"),
            (["ls", "--store", "job.yaml/below"], "--store job.yaml/below: job.yaml is a file"),
            (["ls", "--store", "~nobody-here/x"], "--store ~nobody-here/x: there is no such user"),
            (["stage", "job.yaml", "haed"], "there is no stage `haed`; the stages are: prepare, adapt, head, report"),
            (["stage", "job.yaml", "head"], "stage `head` has the seeds 1, 2; choose one with --seed"),
            (["stage", "job.yaml", "head", "--seed", "3"], "stage `head` has no seed 3; its seeds are: 1, 2"),
            (["pull", "job.yaml", "haed", "new"], "there is no stage `haed`"),
            (["pull", "job.yaml", "head", "new", "--seed", "3"], "stage `head` has no seed 3"),
        ],
    )
    def test_2_for_what_a_retry_cannot_help(self, ftjobs, arguments, message):
        found = ftjobs(*arguments)
        assert found.exit_code == 2
        (error,) = found.errors
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
    def test_75_for_what_is_not_published_yet(self, ftjobs, arguments):
        found = ftjobs(*arguments)
        assert found.exit_code == 75
        (error,) = found.errors
        assert "is not published at runs/small/" in error
        assert not Path("runs").exists()

    def test_1_for_what_a_retry_may_cure(self, ftjobs):
        (manifest, _) = publish("head")
        Path("runs", manifest.folder, "model/tokenizer.json").write_text("{}")
        found = ftjobs("pull", "job.yaml", "head", "new", "--seed", "1")
        assert found.exit_code == 1
        assert found.errors[0].startswith(f"runs/{manifest.folder}/model/tokenizer.json has another sha256")
        assert not Path("new").exists()

    def test_1_for_what_the_machine_refuses(self, ftjobs):
        publish("head")
        found = ftjobs("pull", "job.yaml", "head", "/proc/new", "--seed", "1")  # nobody makes folders there
        assert found.exit_code == 1
        assert found.errors[0].startswith("/proc")

    def test_names_that_would_break_the_line_are_escaped(self, ftjobs):
        (problem,) = ftjobs("plan", "job.yaml", "--set", "a\nb\x1b[31m=1").errors
        assert problem.startswith("--set a\\nb\\x1b[31m=1: unknown key")


def test_an_error_is_as_many_lines_as_it_has_problems():
    assert FtjobsError(["a\nb", "c\td"]).problems == ["a\\nb", "c\\td"]
    assert str(FtjobsError(["a\nb", "c"])) == "a\\nb\nc"


class TestStore:
    def test_is_runs_unless_said(self, ftjobs):
        publish("prepare", store="runs")
        assert [one["where"].split("/")[0] for one in json.loads(ftjobs("ls", "--json").stdout)] == ["runs"]

    def test_comes_from_the_environment(self, ftjobs, monkeypatch):
        publish("prepare", store="elsewhere")
        monkeypatch.setenv("FTJOBS_STORE", "elsewhere")
        assert len(json.loads(ftjobs("ls", "--json").stdout)) == 1
        assert json.loads(ftjobs("ls", "--json", "--store", "runs").stdout) == []

    @pytest.mark.parametrize("command", ["plan", "status", "ls"])
    def test_is_one_for_every_command(self, command):
        publish("prepare", store="elsewhere")
        found = in_a_process(command, "job.yaml", "--json", FTJOBS_STORE="elsewhere")
        assert found.stdout == in_a_process(command, "job.yaml", "--json", "--store", "elsewhere").stdout
        assert found.stdout != in_a_process(command, "job.yaml", "--json", "--store", "empty").stdout

    @pytest.mark.parametrize("arguments", [["plan", "job.yaml"], ["status", "job.yaml"], ["ls"], ["ls", "job.yaml"]])
    def test_looking_makes_none(self, ftjobs, arguments):
        assert ftjobs(*arguments).exit_code == 0
        assert not Path("runs").exists()


class TestAStoreThatCannotBeUsed:
    """Said by the first command that writes, in one line with the way out, before any work."""

    @pytest.mark.parametrize(
        ("settings", "bucket", "message"),
        [
            ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, BUCKET, "no credentials; set AWS_ACCESS_KEY_ID"),
            ({"AWS_SECRET_ACCESS_KEY": "wrong"}, BUCKET, "check AWS_SECRET_ACCESS_KEY"),
            ({}, "no-such-bucket", "there is no such bucket; create it, correct --store"),
            (
                {"AWS_ACCESS_KEY_ID": READER_ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": READER_SECRET_KEY},
                BUCKET,
                "not allowed (403 AccessDenied: Access Denied.); these credentials need s3:PutObject",
            ),
        ],
        ids=["no credentials", "wrong credentials", "no such bucket", "no right to write"],
    )
    @pytest.mark.parametrize("command", [["run", "job.yaml"], ["stage", "job.yaml", "adapt", "--seed", "1"]])
    def test_2_before_any_work(self, ftjobs, s3, tmp_path, monkeypatch, command, settings, bucket, message):
        prepare = runs()[0]
        output = tmp_path / "output"
        output.mkdir()
        artifacts.publish(open_storage(f"s3://{BUCKET}/{tmp_path.name}"), prepare, output, METRICS["prepare"], {})
        monkeypatch.setattr(runner, "_produce", lambda *_: pytest.fail("it began"))
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        found = ftjobs(*command, "--store", f"s3://{bucket}/{tmp_path.name}")
        assert found.exit_code == 2
        assert found.stdout == ""
        (error,) = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
        assert message in error
        started = [line for line in found.stderr.splitlines() if not line.startswith("error: ")]
        assert all(re.search(r"\[\d/\d+\] ", line) for line in started), found.stderr


class TestPlan:
    def test_nothing_published(self, ftjobs):
        found = ftjobs("plan", "job.yaml")
        assert found.stderr == ""
        header, *rows = table(found.stdout)
        assert header == ["stage", "seed", "kind", "reads", "identity", "state", "work"]
        short = [run.identity[:12] for run in runs()]
        assert rows == [
            ["prepare", "-", "prepare", short[0], "would run", "-"],
            ["adapt", "1", "adapt", "prepare", short[1], "would run", "2 epochs"],
            ["adapt", "2", "adapt", "prepare", short[2], "would run", "2 epochs"],
            ["head", "1", "classify", "adapt seed 1, prepare", short[3], "would run", "4 epochs"],
            ["head", "2", "classify", "adapt seed 2, prepare", short[4], "would run", "4 epochs"],
            ["report", "-", "report", "all", short[5], "would run", "-"],
        ]

    def test_work_is_known_once_the_data_is(self, ftjobs):
        publish("prepare", "adapt")
        rows = json.loads(ftjobs("plan", "job.yaml", "--json").stdout)
        assert [row["published"] for row in rows] == [True, True, True, False, False, False]
        assert [row["work"] for row in rows] == [None, None, None, *["52 steps on 100 texts"] * 2, "-"]

    @pytest.mark.parametrize(
        ("override", "work"),
        [
            ("stages.adapt.epochs=1", "13 steps on 200 texts"),  # two text columns
            ("stages.adapt.corpus=all", "28 steps on 224 texts"),
            ("stages.adapt.gradient_accumulation_steps=4", "8 steps on 200 texts"),
        ],
    )
    def test_work_of_adaptation(self, ftjobs, override, work):
        publish("prepare")
        rows = json.loads(ftjobs("plan", "job.yaml", "--json", "--set", override).stdout)
        assert rows[1]["work"] == work

    def test_json(self, ftjobs):
        rows = json.loads(ftjobs("plan", "job.yaml", "--json").stdout)
        assert rows[3] == {
            "stage": "head",
            "seed": 1,
            "kind": "classify",
            "reads": ["adapt seed 1", "prepare"],
            "identity": runs()[3].identity[:12],
            "published": False,
            "work": "4 epochs",
        }

    def test_set_means_other_artifacts(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        rows = json.loads(ftjobs("plan", "job.yaml", "--json", "--set", "stages.head.epochs=5").stdout)
        assert {row["stage"] for row in rows if not row["published"]} == {"head", "report"}

    def test_long_names_are_not_cut(self):
        name = "a" * 40
        Path("job.yaml").write_text(JOB.replace("adapt", name).replace(f"kind: {name}", "kind: adapt"))
        found = in_a_process("plan", "job.yaml", COLUMNS="40")
        assert f"{name} seed 1, prepare" in found.stdout


class TestStatus:
    def states(self, ftjobs) -> list[tuple[str, int | None, str, list[str]]]:
        rows = json.loads(ftjobs("status", "job.yaml", "--json").stdout)
        return [(row["stage"], row["seed"], row["state"], row["waits_for"]) for row in rows]

    def test_nothing_published(self, ftjobs):
        assert self.states(ftjobs) == [
            ("prepare", None, "ready", []),
            ("adapt", 1, "waiting", ["prepare"]),
            ("adapt", 2, "waiting", ["prepare"]),
            ("head", 1, "waiting", ["adapt seed 1", "prepare"]),
            ("head", 2, "waiting", ["adapt seed 2", "prepare"]),
            ("report", None, "waiting", ["adapt seed 1", "adapt seed 2", "head seed 1", "head seed 2", "prepare"]),
        ]

    def test_half_published(self, ftjobs):
        publish("prepare", "adapt")
        assert [state for _, _, state, _ in self.states(ftjobs)] == [*["published"] * 3, "ready", "ready", "waiting"]

    def test_results(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        _, *rows = table(ftjobs("status", "job.yaml").stdout)
        assert [row[0] for row in rows] == ["prepare", "adapt", "adapt", "head", "head", "report"]
        assert rows[1] == ["adapt", "1", "published", "perplexity 30.0 -> 7.3"]
        assert rows[3] == ["head", "1", "published", "accuracy 0.7500 in epoch 3"]

    def test_a_perplexity_without_bound(self, ftjobs, monkeypatch):
        monkeypatch.setitem(METRICS["adapt"], "before", {"perplexity": float("inf")})
        publish("prepare", "adapt")
        assert "perplexity not finite -> 7.3" in ftjobs("status", "job.yaml").stdout

    def test_a_published_stage_waits_for_nothing(self, ftjobs):
        publish("head")
        assert self.states(ftjobs)[3] == ("head", 1, "published", [])

    def test_a_broken_manifest_is_named(self, ftjobs):
        (manifest,) = publish("prepare")
        Path("runs", manifest.key, "manifest.json").write_text("{")
        found = ftjobs("status", "job.yaml")
        assert found.exit_code == 1
        assert found.errors[0].startswith(f"runs/{manifest.key}/manifest.json: no valid manifest")


class TestLs:
    def test_everything_or_one_job(self, ftjobs):
        publish("prepare", "head")
        publish("prepare", overrides=["name=other"])
        publish("head", overrides=["stages.head.epochs=5"])
        assert [row["pipeline"] for row in json.loads(ftjobs("ls", "--json").stdout)] == ["other"] + ["small"] * 5
        rows = json.loads(ftjobs("ls", "job.yaml", "--json").stdout)
        assert [(row["stage"], row["seed"]) for row in rows] == [("head", 1), ("head", 2), ("prepare", 0)]
        rows = json.loads(ftjobs("ls", "job.yaml", "--json", "--set", "stages.head.epochs=5").stdout)
        assert [(row["stage"], row["seed"]) for row in rows] == [("head", 1), ("head", 2), ("prepare", 0)]

    def test_json(self, ftjobs):
        (manifest, _) = publish("head")
        assert json.loads(ftjobs("ls", "--json").stdout)[0] == {
            "pipeline": "small",
            "stage": "head",
            "seed": 1,
            "kind": "classify",
            "identity": manifest.identity[:12],
            "bytes": 4,
            "accuracy": 0.75,
            "mse": None,
            "perplexity": None,
            "where": f"runs/{manifest.folder}",
        }

    def test_a_table(self, ftjobs):
        (manifest, _) = publish("head")
        header, first, _ = table(ftjobs("ls").stdout)
        assert header == ["pipeline", "stage", "seed", "kind", "identity", "bytes", "result", "where"]
        assert first == [
            *(
                "small",
                "head",
                "1",
                "classify",
                manifest.identity[:12],
                "4",
                "accuracy 0.7500",
                f"runs/{manifest.folder}",
            )
        ]

    def test_what_stages_without_an_accuracy_came_to(self, ftjobs, monkeypatch):
        monkeypatch.setitem(METRICS, "classify", {"mse": 0.25, "pearson": 0.5, "best_epoch": 3})
        publish("prepare", "adapt", "head")
        _, *rows = table(ftjobs("ls").stdout)
        assert [row[-2] for row in rows] == [*["perplexity 7.2600"] * 2, *["mse 0.2500"] * 2, "-"]

    def test_nothing(self, ftjobs):
        assert ftjobs("ls", "--json").stdout == "[]\n"
        assert len(ftjobs("ls").stdout.splitlines()) == 1


class TestPull:
    def test_the_model(self, ftjobs):
        publish("head")
        found = ftjobs("pull", "job.yaml", "head", "new/model", "--seed", "2")
        assert found == Result(0, "new/model\n", "")
        assert sorted(path.name for path in Path("new/model").iterdir()) == ["config.json", "tokenizer.json"]

    def test_all(self, ftjobs):
        publish("head")
        assert ftjobs("pull", "job.yaml", "head", "new", "--seed", "2", "--all").exit_code == 0
        assert sorted(path.name for path in Path("new").iterdir()) == ["model", "predictions.jsonl"]

    def test_what_was_set(self, ftjobs):
        publish("head", overrides=["stages.head.epochs=5"])
        arguments = ("pull", "job.yaml", "head", "new", "--seed", "1")
        assert ftjobs(*arguments).exit_code == 75
        assert ftjobs(*arguments, "--set", "stages.head.epochs=5").exit_code == 0

    def test_never_over_something(self, ftjobs):
        publish("head")
        Path("there").mkdir()
        found = ftjobs("pull", "job.yaml", "head", "there", "--seed", "1")
        assert found.exit_code == 2
        assert found.errors == ["there exists already; give a folder that does not"]
        assert list(Path("there").iterdir()) == []

    def test_by_address(self, ftjobs):
        (manifest,) = [one for one in publish("head") if one.seed == 2]
        for number, address in enumerate(
            (f"runs/{manifest.folder}", f"./runs/{manifest.key}/", str(Path("runs", manifest.key).absolute()))
        ):
            assert ftjobs("pull", address, f"new-{number}").exit_code == 0
            assert sorted(path.name for path in Path(f"new-{number}").iterdir()) == ["config.json", "tokenizer.json"]

    @pytest.mark.parametrize("address", ["runs/x", "nonsense", "runs/p/s/seed-1/0123456789ab", "job.yaml"])
    def test_no_address(self, ftjobs, address):
        found = ftjobs("pull", address, "new")
        assert found.exit_code == 2
        assert found.errors[0].startswith(f"{address}: ")
        assert "ftjobs ls" in found.errors[0]


class TestVerify:
    def test_all_right(self, ftjobs):
        manifests = publish("head")
        assert ftjobs("verify") == Result(0, f"{len(manifests)} artifacts, all right\n", "")
        assert ftjobs("verify", "job.yaml").exit_code == 0

    def test_every_file_that_is_not(self, ftjobs):
        first, second, *_ = publish("head")
        (Path("runs", first.folder, first.files[0].path)).write_text("other")
        (Path("runs", first.folder, "extra")).write_text("x")
        (Path("runs", second.folder, second.files[0].path)).unlink()
        found = ftjobs("verify")
        assert found.exit_code == 1
        assert sorted(error.partition(" ")[0] for error in found.errors) == sorted(
            f"runs/{path}"
            for path in (
                f"{first.folder}/{first.files[0].path}",
                f"{first.folder}/extra",
                f"{second.folder}/{second.files[0].path}",
            )
        )


@pytest.mark.parametrize(
    ("command", "output", "said"),
    [
        ("ls", "pipeline  stage  seed  kind  identity  bytes  result  where", "nothing is published in stroe"),
        ("verify", "0 artifacts", "nothing is published in stroe"),
        ("gc", "what  files  bytes  last written  state  where", "nothing in stroe is dead for longer than 24h"),
    ],
)
def test_a_store_where_nothing_is_says_so(ftjobs, command, output, said):
    assert ftjobs(command, "--store", "stroe") == Result(0, f"{output}\n", f"{said}\n")


class TestGc:
    @pytest.fixture
    def dead(self, ftjobs) -> Path:
        """An attempt of an artifact that another attempt published, two days old."""
        manifest = publish("head")[0]
        file = Path("runs", manifest.key, "attempts", "0123", "model", "config.json")
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        os.utime(file, (time.time() - 2 * 86400,) * 2)
        return file

    @pytest.mark.parametrize("said", [[], ["--dry-run"]])
    def test_says_what_would_go(self, ftjobs, dead, said):
        found = ftjobs("gc", *said)
        assert found.exit_code == 0
        (row,) = table(found.stdout)[1:]
        assert row[:3] == ["attempt", "1", "2"]
        assert row[4:] == ["would go", str(dead.parents[1])]
        assert dead.exists()

    def test_removes_it_when_told_to(self, ftjobs, dead):
        before = ftjobs("verify").stdout
        assert "removed" in ftjobs("gc", "job.yaml", "--delete").stdout
        assert not dead.exists()
        assert ftjobs("verify").stdout == before

    def test_not_what_is_younger(self, ftjobs, dead):
        assert table(ftjobs("gc", "--older-than", "3d", "--delete").stdout)[1:] == []
        assert dead.exists()

    def test_an_age_that_is_none(self, ftjobs):
        assert ftjobs("gc", "--older-than", "long").errors == [
            "--older-than long: is no age; give a whole number with a unit, such as 30m, 24h or 7d"
        ]


class TestReport:
    def test_is_printed(self, ftjobs):
        publish("report")
        assert ftjobs("report", "job.yaml") == Result(0, "# small\n\nhead wins.\n", "")

    def test_is_written(self, ftjobs):
        publish("report")
        assert ftjobs("report", "job.yaml", "--out", "out").stdout == "# small\n\nhead wins.\n"
        assert {path.name for path in Path("out").iterdir()} == {"report.md", "report.json"}

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("# other\n")])
    def test_is_not_printed_if_it_is_not_what_was_published(self, ftjobs, damage):
        (manifest,) = publish("report")
        damage(Path("runs", manifest.folder, "report.md"))
        found = ftjobs("report", "job.yaml")
        assert found.exit_code == 1
        assert found.errors[0].startswith(f"runs/{manifest.folder}/report.md ")


class TestRun:
    def test_of_a_published_stage_only_says_its_metrics(self, ftjobs):
        publish("prepare")
        found = ftjobs("stage", "job.yaml", "prepare")
        assert found.exit_code == 0
        assert json.loads(found.stdout) == METRICS["prepare"]

    def test_of_a_published_pipeline_only_prints_the_report(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        found = ftjobs("run", "job.yaml")
        assert found.exit_code == 0
        assert found.stdout == "# small\n\nhead wins.\n"
        assert found.stderr.count("published already") == 6
        assert "the model to ship: ftjobs pull runs/small/head/seed-2/0123456789ab DIR" in found.stderr


def test_the_schema_is_that_of_a_job(ftjobs):
    assert json.loads(ftjobs("schema").stdout) == Job.model_json_schema()
