"""`ftjobs ls`, `pull`, `verify` and `gc` on a small job."""

import json
import os
import time
from pathlib import Path

import pytest

from tests.helpers.commands import (
    METRICS,
    CommandResult,
    parse_table,
    publish,
)

pytestmark = pytest.mark.usefixtures("job_folder")


class TestLs:
    def test_lists_all_artifacts_or_those_of_one_job(self, ftjobs):
        publish("prepare", "head")
        publish("prepare", overrides=["name=other"])
        publish("head", overrides=["stages.head.epochs=5"])
        assert [row["pipeline"] for row in json.loads(ftjobs("ls", "--json").stdout)] == ["other"] + ["small"] * 5
        rows = json.loads(ftjobs("ls", "job.yaml", "--json").stdout)
        assert [(row["stage"], row["seed"]) for row in rows] == [("head", 1), ("head", 2), ("prepare", 0)]
        rows = json.loads(ftjobs("ls", "job.yaml", "--json", "--set", "stages.head.epochs=5").stdout)
        assert [(row["stage"], row["seed"]) for row in rows] == [("head", 1), ("head", 2), ("prepare", 0)]

    def test_json_has_fields_and_metrics(self, ftjobs):
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

    def test_output_is_a_table(self, ftjobs):
        (manifest, _) = publish("head")
        header, first, _ = parse_table(ftjobs("ls").stdout)
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

    def test_result_is_the_metric_of_the_kind(self, ftjobs, monkeypatch):
        monkeypatch.setitem(METRICS, "classify", {"mse": 0.25, "pearson": 0.5, "best_epoch": 3})
        publish("prepare", "adapt", "head")
        _, *rows = parse_table(ftjobs("ls").stdout)
        assert [row[-2] for row in rows] == [*["perplexity 7.2600"] * 2, *["mse 0.2500"] * 2, "-"]

    def test_empty_store_has_no_artifacts(self, ftjobs):
        assert ftjobs("ls", "--json").stdout == "[]\n"
        assert len(ftjobs("ls").stdout.splitlines()) == 1


class TestPull:
    def test_fetches_the_model(self, ftjobs):
        publish("head")
        result = ftjobs("pull", "job.yaml", "head", "new/model", "--seed", "2")
        assert result == CommandResult(0, "new/model\n", "")
        assert sorted(path.name for path in Path("new/model").iterdir()) == ["config.json", "tokenizer.json"]

    def test_all_fetches_every_file(self, ftjobs):
        publish("head")
        assert ftjobs("pull", "job.yaml", "head", "new", "--seed", "2", "--all").exit_code == 0
        assert sorted(path.name for path in Path("new").iterdir()) == ["model", "predictions.jsonl"]

    def test_set_selects_another_artifact(self, ftjobs):
        publish("head", overrides=["stages.head.epochs=5"])
        arguments = ("pull", "job.yaml", "head", "new", "--seed", "1")
        assert ftjobs(*arguments).exit_code == 75
        assert ftjobs(*arguments, "--set", "stages.head.epochs=5").exit_code == 0

    def test_existing_folder_is_an_error(self, ftjobs):
        publish("head")
        Path("there").mkdir()
        result = ftjobs("pull", "job.yaml", "head", "there", "--seed", "1")
        assert result.exit_code == 2
        assert result.errors[0].startswith("there: ")
        assert list(Path("there").iterdir()) == []

    def test_accepts_an_artifact_uri(self, ftjobs):
        (manifest,) = [manifest for manifest in publish("head") if manifest.seed == 2]
        for number, address in enumerate(
            (f"runs/{manifest.folder}", f"./runs/{manifest.key}/", str(Path("runs", manifest.key).absolute()))
        ):
            assert ftjobs("pull", address, f"new-{number}").exit_code == 0
            assert sorted(path.name for path in Path(f"new-{number}").iterdir()) == ["config.json", "tokenizer.json"]

    @pytest.mark.parametrize("address", ["runs/x", "nonsense", "runs/p/s/seed-1/0123456789ab", "job.yaml"])
    def test_invalid_artifact_uri(self, ftjobs, address):
        result = ftjobs("pull", address, "new")
        assert result.exit_code == 2
        assert result.errors[0].startswith(f"{address}: ")
        assert "ftjobs ls" in result.errors[0]


class TestVerify:
    def test_intact_artifacts_are_verified(self, ftjobs):
        manifests = publish("head")
        assert ftjobs("verify") == CommandResult(0, f"{len(manifests)} artifacts, all correct\n", "")
        assert ftjobs("verify", "job.yaml").exit_code == 0

    def test_reports_every_damaged_file(self, ftjobs):
        first, second, *_ = publish("head")
        (Path("runs", first.folder, first.files[0].path)).write_text("other")
        (Path("runs", first.folder, "extra")).write_text("x")
        (Path("runs", second.folder, second.files[0].path)).unlink()
        result = ftjobs("verify")
        assert result.exit_code == 1
        assert sorted(error.partition(" ")[0] for error in result.errors) == sorted(
            f"runs/{path}"
            for path in (
                f"{first.folder}/{first.files[0].path}",
                f"{first.folder}/extra",
                f"{second.folder}/{second.files[0].path}",
            )
        )


@pytest.mark.parametrize(
    ("command", "output", "note"),
    [
        ("ls", "pipeline  stage  seed  kind  identity  bytes  result  where", "no artifacts in stroe"),
        ("verify", "0 artifacts", "no artifacts in stroe"),
        ("gc", "what  files  bytes  last written  state  where", "no garbage older than 24h in stroe"),
    ],
)
def test_empty_store_is_noted_on_stderr(ftjobs, command, output, note):
    assert ftjobs(command, "--store", "stroe") == CommandResult(0, f"{output}\n", f"{note}\n")


class TestGc:
    @pytest.fixture
    def garbage(self, ftjobs) -> Path:
        """A file of a failed attempt, two days old, at a stage that another attempt has published."""
        manifest = publish("head")[0]
        file = Path("runs", manifest.key, "attempts", "0123", "model", "config.json")
        file.parent.mkdir(parents=True)
        file.write_text("{}")
        os.utime(file, (time.time() - 2 * 86400,) * 2)
        return file

    @pytest.mark.parametrize("options", [[], ["--dry-run"]])
    def test_dry_run_lists_garbage(self, ftjobs, garbage, options):
        result = ftjobs("gc", *options)
        assert result.exit_code == 0
        (row,) = parse_table(result.stdout)[1:]
        assert row[:3] == ["attempt", "1", "2"]
        assert row[4:] == ["would be removed", str(garbage.parents[1])]
        assert garbage.exists()

    def test_delete_removes_garbage(self, ftjobs, garbage):
        before = ftjobs("verify").stdout
        assert "removed" in ftjobs("gc", "job.yaml", "--delete").stdout
        assert not garbage.exists()
        assert ftjobs("verify").stdout == before

    def test_keeps_younger_files(self, ftjobs, garbage):
        assert parse_table(ftjobs("gc", "--older-than", "3d", "--delete").stdout)[1:] == []
        assert garbage.exists()

    def test_invalid_age_is_a_user_error(self, ftjobs):
        (error,) = ftjobs("gc", "--older-than", "long").errors
        assert error.startswith("--older-than long: ")
        assert "24h" in error
