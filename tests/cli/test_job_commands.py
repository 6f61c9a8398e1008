"""`ftjobs plan`, `status`, `report`, `run` and `stage` on a small job."""

import json
from pathlib import Path

import pytest

from tests.helpers.commands import (
    JOB,
    METRICS,
    CommandResult,
    parse_table,
    plan_job,
    publish,
    run_installed,
)

pytestmark = pytest.mark.usefixtures("job_folder")


class TestPlan:
    def test_nothing_is_published_in_a_new_store(self, ftjobs):
        result = ftjobs("plan", "job.yaml")
        assert result.stderr == ""
        header, *rows = parse_table(result.stdout)
        assert header == ["stage", "seed", "kind", "reads", "identity", "state", "work"]
        short = [run.identity[:12] for run in plan_job()]
        assert rows == [
            ["prepare", "-", "prepare", short[0], "would run", "-"],
            ["adapt", "1", "adapt", "prepare", short[1], "would run", "2 epochs"],
            ["adapt", "2", "adapt", "prepare", short[2], "would run", "2 epochs"],
            ["head", "1", "classify", "adapt seed 1, prepare", short[3], "would run", "4 epochs"],
            ["head", "2", "classify", "adapt seed 2, prepare", short[4], "would run", "4 epochs"],
            ["report", "-", "report", "all", short[5], "would run", "-"],
        ]

    def test_work_is_in_steps_once_data_is_prepared(self, ftjobs):
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

    def test_json_has_one_object_per_run(self, ftjobs):
        rows = json.loads(ftjobs("plan", "job.yaml", "--json").stdout)
        assert rows[3] == {
            "stage": "head",
            "seed": 1,
            "kind": "classify",
            "reads": ["adapt seed 1", "prepare"],
            "identity": plan_job()[3].identity[:12],
            "published": False,
            "work": "4 epochs",
        }

    def test_set_changes_identities(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        rows = json.loads(ftjobs("plan", "job.yaml", "--json", "--set", "stages.head.epochs=5").stdout)
        assert {row["stage"] for row in rows if not row["published"]} == {"head", "report"}

    def test_long_names_are_not_truncated(self):
        name = "a" * 40
        Path("job.yaml").write_text(JOB.replace("adapt", name).replace(f"kind: {name}", "kind: adapt"))
        result = run_installed("plan", "job.yaml", COLUMNS="40")
        assert f"{name} seed 1, prepare" in result.stdout


class TestStatus:
    def states(self, ftjobs) -> list[tuple[str, int | None, str, list[str]]]:
        rows = json.loads(ftjobs("status", "job.yaml", "--json").stdout)
        return [(row["stage"], row["seed"], row["state"], row["waits_for"]) for row in rows]

    def test_nothing_is_published_in_a_new_store(self, ftjobs):
        assert self.states(ftjobs) == [
            ("prepare", None, "ready", []),
            ("adapt", 1, "waiting", ["prepare"]),
            ("adapt", 2, "waiting", ["prepare"]),
            ("head", 1, "waiting", ["adapt seed 1", "prepare"]),
            ("head", 2, "waiting", ["adapt seed 2", "prepare"]),
            ("report", None, "waiting", ["adapt seed 1", "adapt seed 2", "head seed 1", "head seed 2", "prepare"]),
        ]

    def test_stages_with_published_inputs_are_ready(self, ftjobs):
        publish("prepare", "adapt")
        assert [state for _, _, state, _ in self.states(ftjobs)] == [*["published"] * 3, "ready", "ready", "waiting"]

    def test_published_stages_show_their_results(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        _, *rows = parse_table(ftjobs("status", "job.yaml").stdout)
        assert [row[0] for row in rows] == ["prepare", "adapt", "adapt", "head", "head", "report"]
        assert rows[1] == ["adapt", "1", "published", "perplexity 30.0 -> 7.3"]
        assert rows[3] == ["head", "1", "published", "accuracy 0.7500 in epoch 3"]

    def test_infinite_perplexity_is_not_finite(self, ftjobs, monkeypatch):
        monkeypatch.setitem(METRICS["adapt"], "before", {"perplexity": float("inf")})
        publish("prepare", "adapt")
        assert "perplexity not finite -> 7.3" in ftjobs("status", "job.yaml").stdout

    def test_published_stage_waits_for_nothing(self, ftjobs):
        publish("head")
        assert self.states(ftjobs)[3] == ("head", 1, "published", [])

    def test_corrupt_manifest_is_an_error(self, ftjobs):
        (manifest,) = publish("prepare")
        Path("runs", manifest.key, "manifest.json").write_text("{")
        result = ftjobs("status", "job.yaml")
        assert result.exit_code == 1
        assert result.errors[0].startswith(f"runs/{manifest.key}/manifest.json: ")


class TestReport:
    def test_report_is_printed(self, ftjobs):
        publish("report")
        assert ftjobs("report", "job.yaml") == CommandResult(0, "# small\n\nhead wins.\n", "")

    def test_out_writes_all_report_files(self, ftjobs):
        publish("report")
        assert ftjobs("report", "job.yaml", "--out", "out").stdout == "# small\n\nhead wins.\n"
        assert {path.name for path in Path("out").iterdir()} == {"report.md", "report.json"}

    @pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("# other\n")])
    def test_damaged_report_is_not_printed(self, ftjobs, damage):
        (manifest,) = publish("report")
        damage(Path("runs", manifest.folder, "report.md"))
        result = ftjobs("report", "job.yaml")
        assert result.exit_code == 1
        assert result.errors[0].startswith(f"runs/{manifest.folder}/report.md ")


class TestRun:
    def test_published_stage_prints_its_metrics(self, ftjobs):
        publish("prepare")
        result = ftjobs("stage", "job.yaml", "prepare")
        assert result.exit_code == 0
        assert json.loads(result.stdout) == METRICS["prepare"]

    def test_published_pipeline_prints_the_report(self, ftjobs):
        publish("prepare", "adapt", "head", "report")
        result = ftjobs("run", "job.yaml")
        assert result.exit_code == 0
        assert result.stdout == "# small\n\nhead wins.\n"
        assert result.stderr.count("already published") == 6
        assert "ftjobs pull runs/small/head/seed-2/0123456789ab DIR" in result.stderr
