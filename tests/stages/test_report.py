"""The report folder is complete, reproducible and small, for every kind of job."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from tests.helpers.published import HYPOTHESES, PLOTS, STAGES, STRATEGIES, Pipeline, always, guesses


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("report")
    pipeline = Pipeline(folder / "in", STRATEGIES, hypotheses=HYPOTHESES, shared=40)
    return pipeline, pipeline.report(folder / "out"), files(folder / "out")


def test_folder_is_complete(report: Any) -> None:
    _, metrics, report_files = report
    expected = {"report.html", "report.md", "report.json", "predictions.parquet", "job.yaml"}
    assert set(report_files) == expected | {f"plots/{name}.{end}" for name in PLOTS for end in ("svg", "png")}
    assert sum(map(len, report_files.values())) < 1_000_000
    assert metrics["to_ship"]["stage"] == "adapted-behavioural"
    assert set(metrics["hypotheses"]) == set(HYPOTHESES)


def test_report_is_reproducible(report: Any, tmp_path: Path) -> None:
    pipeline, metrics, report_files = report
    assert pipeline.report(tmp_path / "again") == metrics
    assert files(tmp_path / "again") == report_files


def test_markdown_links_to_existing_files(report: Any) -> None:
    _, _, report_files = report
    text = report_files["report.md"].decode()
    linked = set(re.findall(r"\]\(([^)]+)\)", text))
    assert linked == {f"plots/{name}.svg" for name in PLOTS} | {"job.yaml"}
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [
        *("Results", "Hypotheses", "Caveats", "Learning curves", "Adaptation", "Errors and calibration"),
        *("Largest disagreements", "Provenance"),
    ]


def test_tables_show_metrics_of_the_artifacts(report: Any) -> None:
    pipeline, _, report_files = report
    content = json.loads(report_files["report.json"])
    runs = {run.seed: run for run in pipeline.evidence().strategy("head").runs}
    row = content["results"][0]
    accuracy = [runs[seed].metrics["accuracy"] for seed in (1, 2, 3)]
    assert row["accuracy"]["mean"] == pytest.approx(sum(accuracy) / 3)
    assert [seed["accuracy"] for seed in row["seeds"].values()] == accuracy
    low, high = row["accuracy"]["interval"]
    assert low < row["accuracy"]["mean"] < high
    assert row["cost"]["peak_memory_bytes"] == 512_000_000
    shown = f"{100 * row['accuracy']['mean']:.2f} ± {100 * row['accuracy']['sd']:.2f}"
    for text in (report_files["report.md"].decode(), report_files["report.html"].decode()):
        assert shown in text
        assert "512 MB" in text
        assert "1,234" in text


def test_page_contains_every_plot(report: Any) -> None:
    _, _, report_files = report
    page = report_files["report.html"].decode()
    for name in PLOTS:
        ElementTree.fromstring(report_files[f"plots/{name}.svg"].decode())
    assert page.count("<svg ") == len(PLOTS)
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_job_file_of_the_report_has_the_same_identities(report: Any, tmp_path: Path) -> None:
    pipeline, _, report_files = report
    (tmp_path / "job.yaml").write_bytes(report_files["job.yaml"])
    again = plan(read(tmp_path / "job.yaml"))
    assert [run.identity for run in again] == [run.identity for run in pipeline.runs]


def test_report_contains_no_local_paths(report: Any) -> None:
    _, _, report_files = report
    for name, data in report_files.items():
        assert b"/home/user" not in data, name  # a path in the settings of the manifests
        assert b"/tmp/" not in data, name


@pytest.mark.parametrize(
    "case",
    [
        {"classifiers": {"only": guesses(0.7)}, "stages": {"only": {"kind": "classify"}}, "seeds": [5]},
        {"classifiers": STRATEGIES, "validation": 0, "seeds": [5]},
        {"classifiers": {}, "stages": {"adapt": {"kind": "adapt"}}, "classes": (), "pairs": False},
        {"classifiers": {}, "stages": {"adapt": {"kind": "adapt"}, "next": {"kind": "adapt", "encoder": "adapt"}}},
        {"classifiers": dict.fromkeys(STAGES, always(0)), "test": 4},
        {"classifiers": dict.fromkeys(STAGES, guesses(0.5, 3)), "classes": ("a", "b", "c"), "seeds": [1, 2, 3, 4, 5]},
    ],
    ids=["one stage", "no validation", "no labels", "labels but no classifier", "four test rows", "three classes"],
)
def test_every_kind_of_job_has_a_report(case: dict[str, Any], tmp_path: Path) -> None:
    metrics = Pipeline(tmp_path / "in", **case).report(tmp_path / "out")
    report_files = files(tmp_path / "out")
    assert report_files["report.md"].decode().startswith("# published\n\n**")
    assert ("predictions.parquet" in report_files) == bool(case["classifiers"])
    assert metrics["to_ship"]["artifact"].startswith("published/")
    assert b"nan" not in report_files["report.json"].lower()
    assert yaml.safe_load(report_files["job.yaml"])["name"] == "published"


@pytest.mark.slow
def test_report_of_thirty_stages_and_twenty_classes_is_small(tmp_path: Path) -> None:
    names = [f"a-stage-with-a-long-name-number-{number}" for number in range(30)]
    stages = {name: {"kind": "classify", "learning_rate": 1e-5 * (1 + number)} for number, name in enumerate(names)}
    classes = tuple(f"class {number} <b>|`*$x$ with quite a long name" for number in range(20))
    classifiers = {name: guesses(0.4 + number / 60, 20) for number, name in enumerate(names)}
    pipeline = Pipeline(
        tmp_path / "in", classifiers, stages=stages, classes=classes, hypotheses=[f"{names[9]} > {names[3]}"], seeds=[1]
    )
    pipeline.report(tmp_path / "out")
    report_files = files(tmp_path / "out")
    assert len(report_files["report.html"]) < 2_000_000
    assert sum(map(len, report_files.values())) < 10_000_000
    assert b"18 less accurate" in report_files["plots/accuracy.svg"]
    assert pq.read_table(tmp_path / "out/predictions.parquet").num_rows == 30 * 200


def test_markup_and_control_characters_of_the_data_are_inert(tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)> | `b` **c** \x00\x1b[31m \u202e"
    pipeline = Pipeline(
        tmp_path / "in",
        STRATEGIES,
        classes=("<script>alert(1)</script>\x1b|", "b\nc"),
        texts=lambda split, row: f"{split} {row} {hostile}",
    )
    pipeline.report(tmp_path / "out")
    report_files = files(tmp_path / "out")
    page = report_files["report.html"].decode()
    assert "<script" not in page
    assert "<img" not in page
    for name in ("report.html", "report.md", *(f"plots/{plot}.svg" for plot in PLOTS - {"hypotheses"})):
        assert b"\x1b" not in report_files[name], name
        assert b"\x00" not in report_files[name], name
    for name in PLOTS - {"hypotheses"}:
        ElementTree.fromstring(report_files[f"plots/{name}.svg"].decode())
