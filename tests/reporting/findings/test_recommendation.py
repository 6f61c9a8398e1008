"""The answer: what the report claims follows from the figures, and the test rows do not choose the model in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftjobs.reporting.findings import hypotheses, recommendation
from ftjobs.reporting.findings.collect import content
from ftjobs.reporting.text import opening
from tests.helpers.published import STAGES, Pipeline, guesses

BETTER = {
    "head": guesses(0.6),
    "behavioural": guesses(0.7),
    "adapted-head": guesses(0.75),
    "adapted-behavioural": guesses(0.9),
}
SAME = dict.fromkeys(BETTER, guesses(0.7))


def found(folder: Path, classifiers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    pipeline = Pipeline(folder, classifiers, **fields)
    return content(pipeline.evidence(), pipeline.published())


def test_adapting_pays_where_both_adapted_twins_win(tmp_path: Path) -> None:
    one = found(tmp_path, BETTER, test=1_000)
    pairs = [(x["better"], x["worse"], x["verdict"]) for x in one["does_adapting_pay"]]
    assert pairs == [
        ("adapted-head", "head", "supported"),
        ("adapted-behavioural", "behavioural", "supported"),
    ]
    assert not any(x["stated"] for x in one["does_adapting_pay"])
    low, high = sorted(x["difference"] for x in one["does_adapting_pay"])
    assert opening.headline(one) == f"Adapting pays: +{100 * low:.1f} to +{100 * high:.1f} points of accuracy"
    assert "did not state this" in opening.lead(one)[0]


def test_equal_twins_leave_it_undecided(tmp_path: Path) -> None:
    one = found(tmp_path, SAME)
    assert {x["verdict"] for x in one["does_adapting_pay"]} == {"undecided"}
    assert opening.headline(one) == "Whether adapting pays is undecided"


def test_worse_twins_say_that_it_does_not_pay(tmp_path: Path) -> None:
    swapped = {**BETTER, "adapted-head": guesses(0.4), "adapted-behavioural": guesses(0.5)}
    one = found(tmp_path, swapped, test=1_000)
    assert {x["verdict"] for x in one["does_adapting_pay"]} == {"contradicted"}
    assert opening.headline(one).startswith("Adapting does not pay: \N{MINUS SIGN}")


def test_a_mixed_answer_names_both_sides(tmp_path: Path) -> None:
    one = found(tmp_path, {**SAME, "adapted-head": guesses(0.95)}, test=1_000)
    assert opening.headline(one) == "Adapting pays over `head` and is undecided over `behavioural`"


def test_the_jobs_own_hypothesis_is_the_answer_with_its_margin(tmp_path: Path) -> None:
    one = found(tmp_path, BETTER, test=1_000, hypotheses=["adapted-head > head by 0.5", "behavioural > head"])
    first = one["does_adapting_pay"][0]
    assert first["stated"]
    assert first["margin"] == 0.5
    assert first["verdict"] == "contradicted"
    assert "`adapted-head` does not beat `head` by more than 50.0 points" in opening.lead(one)[0]


def test_the_twin_is_the_stage_with_the_fewest_other_settings(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt"},
        "long": {"kind": "classify", "epochs": 9, "learning_rate": 1e-4},
        "plain": {"kind": "classify", "epochs": 9},
        "frozen": {"kind": "classify", "freeze_encoder": True},
        "adapted": {"kind": "classify", "encoder": "adapt", "epochs": 8},
    }
    one = Pipeline(tmp_path, dict.fromkeys(stages, guesses(0.7)), stages=stages).evidence()
    (entry,) = recommendation.does_adapting_pay(one, [])
    assert (entry["better"], entry["worse"], entry["also_differ_in"]) == ("adapted", "plain", ["epochs"])


def test_twins_on_other_numbers_of_processes_differ_in_their_batch(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, dict.fromkeys(STAGES, guesses(0.7)))
    for seed in (1, 2, 3):
        pipeline.timed("adapted-head", seed, processes=8)
    entries = {
        entry["better"]: entry["also_differ_in"] for entry in recommendation.does_adapting_pay(pipeline.evidence(), [])
    }
    assert entries == {"adapted-head": ["--num-processes"], "adapted-behavioural": []}


def test_without_an_adapted_stage_nothing_is_claimed_about_adapting(tmp_path: Path) -> None:
    stages = {"head": STAGES["head"], "behavioural": STAGES["behavioural"]}
    one = found(tmp_path, BETTER, stages=stages)
    assert one["does_adapting_pay"] == []
    assert opening.headline(one).startswith("`behavioural` is right on ")
    assert "does not ask whether adapting pays" in opening.lead(one)[0]


def test_a_job_that_only_adapts_ships_the_encoder_with_the_lowest_loss(tmp_path: Path) -> None:
    one = found(tmp_path, {}, stages={"adapt": {"kind": "adapt"}}, classes=(), pairs=False, seeds=[3, 1, 2])
    assert (one["to_ship"]["kind"], one["to_ship"]["stage"], one["to_ship"]["seed"]) == ("encoder", "adapt", 1)
    assert opening.headline(one) == "Adapting takes perplexity on held-out text from 403.4 to 2.8"
    assert "no labels" in opening.lead(one)[0]


def test_validation_chooses_the_model_and_not_the_test_rows(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, BETTER)
    evidence = pipeline.evidence()
    for strategy in evidence.strategies:  # `head` is worst on test; on validation let it be best, with its last seed
        for run in strategy.runs:
            value = 0.9 + run.seed / 100 if strategy.name == "head" else 0.5
            run.best["validation"] = {**run.best["validation"], "accuracy": value}
    shipped = recommendation.to_ship(evidence, pipeline.published())
    assert (shipped["stage"], shipped["seed"], shipped["chosen_on"]) == ("head", 3, "validation")
    assert shipped["selection_accuracy"]["seed"] == 0.93
    assert shipped["accuracy"] == evidence.strategies[0].runs[2].metrics["accuracy"]
    assert shipped["interval"][0] < shipped["accuracy"] < shipped["interval"][1]
    assert shipped["artifact"] == next(r.key for r in pipeline.runs if (r.stage, r.seed) == ("head", 3))


def test_where_the_test_rows_choose_it_is_said(tmp_path: Path) -> None:
    one = found(tmp_path, BETTER, validation=0)
    assert one["to_ship"]["chosen_on"] == "test"
    assert "the test rows chose it" in " ".join(getattr(block, "text", "") for block in opening.ship(one))


def test_strategies_that_cannot_be_told_apart_are_named_with_the_simplest(tmp_path: Path) -> None:
    one = found(tmp_path, {**SAME, "head": guesses(0.2)}, test=500)
    level = {x["stage"] for x in one["to_ship"]["level_with"]} | {one["to_ship"]["stage"]}
    assert level == {"behavioural", "adapted-head", "adapted-behavioural"}
    assert one["to_ship"]["simplest_of_these"] == "behavioural"
    (simplest,) = [x for x in one["to_ship"]["level_with"] if x["stage"] == "behavioural"]
    cost = f"{100 * simplest['difference']:.1f} points" if simplest["difference"] > 0 else "nothing"
    said = " ".join(getattr(block, "text", "") for block in opening.ship(one))
    assert (
        f"to ship that one costs {cost} in these runs, and may cost up to {100 * simplest['interval'][1]:.1f}" in said
    )


def test_a_tie_goes_to_the_stage_that_is_simplest_to_train(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, SAME)
    evidence = pipeline.evidence()
    for strategy in evidence.strategies:
        for run in strategy.runs:
            run.best["validation"] = {**run.best["validation"], "accuracy": 0.7}
    assert recommendation.to_ship(evidence, pipeline.published())["stage"] == "head"


@pytest.mark.parametrize("part", [{"lora": {"rank": 8, "alpha": 16}}, {"unfreeze": "last-2"}])
def test_training_part_of_the_encoder_is_simpler_than_all_of_it(tmp_path: Path, part: dict[str, Any]) -> None:
    pipeline = Pipeline(tmp_path, SAME)
    evidence = pipeline.evidence()
    for strategy in evidence.strategies:
        for run in strategy.runs:
            run.best["validation"] = {**run.best["validation"], "accuracy": 0.7}
    # Two that read the same encoder and train it, of which the job's order has the other one first.
    evidence.strategy("head").settings["freeze_encoder"] = False
    evidence.strategy("behavioural").settings.update(part)
    assert recommendation.to_ship(evidence, pipeline.published())["stage"] == "behavioural"


def test_one_seed_is_said_with_every_verdict(tmp_path: Path) -> None:
    one = found(tmp_path, BETTER, seeds=[7])
    assert all("these two trained models only" in paragraph for paragraph in opening.lead(one))


def test_difference_and_mcnemar_are_those_of_the_predictions(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, BETTER, hypotheses=["behavioural > head by 0.01"]).evidence()
    (entry,) = hypotheses.tested(evidence)
    first, second = evidence.strategy("behavioural").right, evidence.strategy("head").right
    np.testing.assert_allclose(entry["difference"], first.mean() - second.mean(), atol=1e-12)
    assert entry["hypothesis"] == "behavioural > head by 0.01"
    assert list(entry["seeds"]) == ["1", "2", "3"]
    assert entry["seeds"]["2"]["only_better"] == int((first[1] & ~second[1]).sum())
    assert entry["seeds"]["2"]["only_worse"] == int((second[1] & ~first[1]).sum())
    assert entry["p_value"] <= entry["adjusted_p_value"]


def test_what_is_needed_stands_with_undecided_hypotheses_only(tmp_path: Path) -> None:
    classifiers = {**SAME, "adapted-behavioural": guesses(0.95), "behavioural": guesses(0.73)}
    stated = ["behavioural > head", "adapted-behavioural > head"]
    undecided, decided = hypotheses.tested(Pipeline(tmp_path, classifiers, hypotheses=stated, test=400).evidence())
    assert (undecided["verdict"], decided["verdict"]) == ("undecided", "supported")
    assert decided["needed"] is None
    assert undecided["needed"]["more_seeds"] is None or undecided["needed"]["more_seeds"] > 0
    assert any(undecided["needed"].values())
    assert opening.needed({"more_seeds": 3, "more_examples": 1234}) == "about 3 more seeds or 1,300 more test rows"
    assert opening.needed({"more_seeds": None, "more_examples": None}) == ""
