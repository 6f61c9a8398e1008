"""Dependencies of JobSet entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.rendering import render
from tests.helpers import kubernetes_rules


def render_entries(tmp_path: Path, stages: str) -> list[dict[str, Any]]:
    (tmp_path / "job.yaml").write_text(
        f"name: many\nencoder: {{model: me/e}}\ndata: {{source: me/d, text: a, label: b}}\nstages: {{{stages}}}\n"
    )
    (jobset,) = (
        m
        for m in render(read(tmp_path / "job.yaml"), Options(image="a:1", store="s3://b/c"), "jobset")
        if m["kind"] == "JobSet"
    )
    assert list(kubernetes_rules.jobset_problems(jobset)) == []
    for pod in kubernetes_rules.pods(jobset):
        assert list(kubernetes_rules.restricted_problems(pod)) == list(kubernetes_rules.pod_problems(pod)) == []
    return jobset["spec"]["replicatedJobs"]


@pytest.mark.parametrize("count", [1, 5, 6, 26, 40])
def test_report_waits_for_any_number_of_stages(tmp_path: Path, count: int):
    stages = ", ".join(f"s{number}: {{kind: classify}}" for number in range(count))
    entries = {entry["name"]: entry for entry in render_entries(tmp_path, stages)}

    def waits_for(name: str) -> set[str]:
        direct = {dependency["name"] for dependency in entries[name].get("dependsOn", [])}
        return direct.union(*(waits_for(dependency) for dependency in direct))

    assert {f"s{number}" for number in range(count)} <= waits_for("report")
    assert ("join-1" in entries) is (count > 5)
    assert list(entries)[-1] == "report"


def test_stage_waits_only_for_direct_dependencies(tmp_path: Path):
    entries = render_entries(
        tmp_path, "adapt: {kind: adapt}, head: {kind: classify, encoder: adapt}, join-1: {kind: classify}"
    )
    waits = {entry["name"]: [dependency["name"] for dependency in entry.get("dependsOn", [])] for entry in entries}
    assert waits == {
        "prepare": [],
        "adapt": ["prepare"],
        "head": ["adapt"],
        "join-1": ["prepare"],
        "report": ["head", "join-1"],
    }
    assert all(dependency["status"] == "Complete" for entry in entries for dependency in entry.get("dependsOn", []))
