"""Each caveat is present with the right figures where its cause is, and absent elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftjobs.reporting.finding import Caveat, to_json
from ftjobs.reporting.findings.collect import caveats
from tests.helpers.published import STAGES, Pipeline, always, guesses

FOUR = dict.fromkeys(STAGES, guesses(0.8))
#: Caveats of every job with labels.
ALWAYS = {"selection", "leakage", "class balance"}


def by_name(pipeline: Pipeline) -> dict[str, Caveat]:
    return {caveat.name: caveat for caveat in caveats(pipeline.evidence())}


def figures(pipeline: Pipeline, name: str) -> dict[str, Any]:
    """Return the figures of a caveat, as in `report.json`."""
    return dict(to_json(by_name(pipeline)[name])["figures"])


def test_flawless_job_has_only_the_caveats_of_every_job(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, test=2_000)
    assert set(by_name(pipeline)) == ALWAYS
    assert figures(pipeline, "selection")["selected_on"] == "validation"
    assert figures(pipeline, "leakage") == {"rows": 2_000, "rows_in_training": 0, "accuracy": {}}
    assert figures(pipeline, "class balance")["majority_accuracy"] == 0.5


def test_caveats_are_sorted_by_severity(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {**FOUR, "head": always(1)}, seeds=[7], shared=5, test=50)
    names = list(by_name(pipeline))
    assert names[:4] == ["selection", "leakage", "one seed", "collapsed"]
    assert names[-1] == "class balance"


def test_selection_on_test_gives_the_gain_over_the_last_epoch(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, validation=0)
    selection = figures(pipeline, "selection")
    assert selection["selected_on"] == "test"
    assert selection["best_minus_last"]["head"] == pytest.approx(0.02)
    assert "`head` +2.00" in by_name(pipeline)["selection"].text


def test_leakage_counts_rows_and_scores_with_and_without_them(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, shared=60)
    leakage = figures(pipeline, "leakage")
    assert (leakage["rows"], leakage["rows_in_training"], leakage["new_rows"]) == (200, 60, 140)
    right = pipeline.evidence().strategy("head").right
    scores = leakage["accuracy"]["head"]
    assert scores["all"] == right.mean()
    assert scores["in_training"] == right[:, :60].mean()
    assert scores["new"] == right[:, 60:].mean()
    assert scores["new_interval"][0] < scores["new"] < scores["new_interval"][1]


def test_leakage_of_every_row_leaves_no_score_on_new_rows(tmp_path: Path) -> None:
    leakage = figures(Pipeline(tmp_path, FOUR, shared=200, train=300), "leakage")
    assert leakage["new_rows"] == 0
    assert leakage["accuracy"]["head"].keys() == {"all", "in_training"}


def test_collapsed_seeds_are_named_with_their_class(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {**FOUR, "head": always(1)})
    runs = figures(pipeline, "collapsed")["runs"]
    assert runs == [{"stage": "head", "seed": seed, "class": "similar", "share": 1.0} for seed in (1, 2, 3)]
    assert figures(pipeline, "no better than the majority class") == {"majority_accuracy": 0.5, "stages": ["head"]}


def test_one_seed_is_a_caveat(tmp_path: Path) -> None:
    assert figures(Pipeline(tmp_path, FOUR, seeds=[7]), "one seed") == {"seeds": [7]}


def test_small_test_split_gives_the_half_width_of_the_interval(tmp_path: Path) -> None:
    small = figures(Pipeline(tmp_path, FOUR, test=50), "small test split")
    assert small["rows"] == 50
    assert small["half_width"] > 0.05


def test_class_balance_names_classes_missing_from_training(tmp_path: Path) -> None:
    labels = {"train": {"different": 100, "similar": 0}, "test": {"different": 100, "similar": 100}}
    pipeline = Pipeline(tmp_path, FOUR, summary={"labels": labels})
    assert figures(pipeline, "class balance")["labels"] == labels
    text = by_name(pipeline)["class balance"].text
    assert "train “different” 100.0 %, “similar” 0.0 %" in text
    assert text.endswith("Missing from training: “similar”.")


def test_truncated_texts_are_counted_by_stage_and_split(tmp_path: Path) -> None:
    truncated = figures(Pipeline(tmp_path, FOUR, truncated=3), "truncated")
    assert truncated["truncated"]["head"] == {"train": 0, "test": 3}
    assert truncated["truncated"]["adapt"] == {"texts": 3}
    assert truncated["longest"] == 700


def test_new_pooler_under_a_frozen_encoder(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    for stage in ("head", "behavioural"):
        for seed in (1, 2, 3):
            pipeline.update(stage, seed, "metrics.json", newly_initialised=["bert.pooler.dense.weight"])
    assert figures(pipeline, "new pooler") == {"stages": ["head"]}


def test_adapting_on_test_texts(tmp_path: Path) -> None:
    stages = {**STAGES, "adapt": {"kind": "adapt", "corpus": "all"}}
    assert figures(Pipeline(tmp_path, FOUR, stages=stages), "adapted on held-out texts") == {"stages": ["adapt"]}


def test_different_devices_are_a_caveat(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    pipeline.update("head", 1, "timing.json", device="cuda", mixed_precision="bf16")
    assert figures(pipeline, "different devices") == {"devices": ["cpu (no)", "cuda (bf16)"]}


@pytest.mark.parametrize(("stages", "behavioural"), [(["adapt", *FOUR], [4]), (["adapt", "head"], [1])])
def test_several_processes_are_a_caveat(tmp_path: Path, stages: list[str], behavioural: list[int]) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    for stage in stages:
        for seed in (1, 2, 3):
            pipeline.update(stage, seed, "timing.json", processes=4)
    processes = figures(pipeline, "several processes")["processes"]
    assert (processes["head"], processes["behavioural"]) == ([4], behavioural)
    same = behavioural == [4]
    assert ("different numbers" in by_name(pipeline)["several processes"].text) != same


def test_job_without_labels_has_only_leakage(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {}, stages={"adapt": {"kind": "adapt"}}, classes=(), pairs=False, shared=5)
    assert set(by_name(pipeline)) == {"leakage"}
