"""Caveats: each stands where its cause was built in, with the right figures, and not where it was not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftjobs.reporting.findings.caveats import caveats
from tests.helpers.published import STAGES, Pipeline, always, guesses

FOUR = dict.fromkeys(STAGES, guesses(0.8))
#: What is always said, because a reader asks for it.
ALWAYS = {"selection", "leakage", "class balance"}


def found(pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in caveats(pipeline.evidence())}


def test_a_clean_job_has_no_other_caveats_than_those_that_are_always_answered(tmp_path: Path) -> None:
    kinds = found(Pipeline(tmp_path, FOUR, test=2_000))
    assert set(kinds) == ALWAYS
    assert "chosen on 50 validation rows" in kinds["selection"]["text"]
    assert "No test text stands in training" in kinds["leakage"]["text"]
    assert kinds["class balance"]["text"].startswith("**Classes are balanced:** the most frequent of 2")


def test_selection_on_test_with_the_gap_to_the_last_epoch(tmp_path: Path) -> None:
    one = found(Pipeline(tmp_path, FOUR, validation=0))["selection"]
    assert "same 200 test rows that it is reported on" in one["text"]
    assert one["figures"]["best_minus_last"]["head"] == pytest.approx(0.02)
    assert "`head` +2.00" in one["text"]


def test_leakage_is_counted_and_accuracy_given_with_and_without(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, shared=60)
    one = found(pipeline)["leakage"]
    assert "60 of 200 test rows (30 %)" in one["text"]
    assert (one["figures"]["rows_in_training"], one["figures"]["new_rows"]) == (60, 140)
    right = pipeline.evidence().strategy("head").right
    entry = one["figures"]["accuracy"]["head"]
    assert entry["in_training"] == right[:, :60].mean()
    assert entry["new"] == right[:, 60:].mean()
    assert entry["new_interval"][0] < entry["new"] < entry["new_interval"][1]


@pytest.mark.parametrize(("shared", "said"), [(199, "Only 1 row is new"), (200, "Not one row is new")])
def test_too_few_new_rows_say_nothing(tmp_path: Path, shared: int, said: str) -> None:
    assert said in found(Pipeline(tmp_path, FOUR, shared=shared, train=300))["leakage"]["text"]


def test_seeds_that_collapsed_are_named_with_their_class(tmp_path: Path) -> None:
    one = found(Pipeline(tmp_path, {**FOUR, "head": always(1)}))
    assert (
        "**3 of 12 trained classifiers have collapsed to one class:** `head` seeds 1, 2, 3 to “similar”"
        in (one["collapsed"]["text"])
    )
    assert one["no better than the majority class"]["figures"] == {"majority_accuracy": 0.5, "stages": ["head"]}


def test_one_seed(tmp_path: Path) -> None:
    assert "**One seed (7).**" in found(Pipeline(tmp_path, FOUR, seeds=[7]))["one seed"]["text"]


def test_a_small_test_split_with_what_one_row_is_worth(tmp_path: Path) -> None:
    one = found(Pipeline(tmp_path, FOUR, test=50))["small test split"]
    assert "50 rows.** One row is 2.00 points" in one["text"]
    assert one["figures"]["half_width"] > 0.05


def test_uneven_classes_and_classes_that_training_lacks(tmp_path: Path) -> None:
    labels = {
        "train": {"different": 100, "similar": 0},
        "test": {"different": 100, "similar": 100},
    }
    text = found(Pipeline(tmp_path, FOUR, seen={"labels": labels}))["class balance"]["text"]
    assert "train “different” 100.0 %, “similar” 0.0 %" in text
    assert "“similar”: not in training at all" in text


def test_truncated_texts_by_stage_and_split(tmp_path: Path) -> None:
    one = found(Pipeline(tmp_path, FOUR, truncated=3))["truncated"]
    assert "`head` (limit 512 tokens or the encoder's) 3 of 200 in test" in one["text"]
    assert "`adapt` 3 of 100 texts. The longest has 700 tokens" in one["text"]


def test_a_pooler_made_up_under_a_frozen_head(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    for seed in (1, 2, 3):
        path = pipeline.inputs[f"head/seed-{seed}"] / "metrics.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "newly_initialised": ["bert.pooler.dense.weight"]}))
    assert found(pipeline)["new pooler"]["figures"]["stages"] == ["head"]


def test_adapted_on_the_test_texts(tmp_path: Path) -> None:
    stages = {**STAGES, "adapt": {"kind": "adapt", "corpus": "all"}}
    assert (
        "`adapt` read the validation and test texts too"
        in (found(Pipeline(tmp_path, FOUR, stages=stages))["adapted on held-out texts"]["text"])
    )


def test_times_of_different_devices(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    pipeline.timed("head", 1, device="cuda", mixed_precision="bf16")
    assert "cpu (no), cuda (bf16)" in found(pipeline)["different devices"]["text"]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        (["adapt", *FOUR], "**Every stage was trained on 4 processes.** A step takes"),
        (["adapt", "head"], "**Not all were trained on the same number of processes:** `head` 4, `behavioural` 1, "),
    ],
)
def test_trainings_on_several_processes(tmp_path: Path, stages: list[str], said: str) -> None:
    pipeline = Pipeline(tmp_path, FOUR)
    for stage in stages:
        for seed in (1, 2, 3):
            pipeline.timed(stage, seed, processes=4)
    one = found(pipeline)["several processes"]
    assert one["text"].startswith(said)
    assert one["figures"]["processes"]["head"] == [4]


def test_a_job_without_labels(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, {}, stages={"adapt": {"kind": "adapt"}}, classes=(), pairs=False, shared=5)
    assert set(found(pipeline)) == {"leakage"}
