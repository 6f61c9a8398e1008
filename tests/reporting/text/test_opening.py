"""The opening states the answer, its evidence and the recommended checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ftjobs.reporting.findings.hypotheses import RequiredEvidence
from ftjobs.reporting.findings.recommendation import ClassifierRecommendation
from ftjobs.reporting.text import opening
from ftjobs.reporting.text.blocks import Command, Prose
from tests.helpers.messages import mentions
from tests.helpers.published import BETTER, SAME, STAGES, Pipeline, guesses

MINUS = "\N{MINUS SIGN}"


def headline(folder: Path, classifiers: dict[str, Any], **fields: Any) -> str:
    return opening.headline(Pipeline(folder, classifiers, **fields).findings())


def ship_text(blocks: list[Any]) -> str:
    return " ".join(block.text for block in blocks if isinstance(block, Prose))


def test_headline_gives_the_range_of_gains(tmp_path: Path) -> None:
    findings = Pipeline(tmp_path, BETTER, test=1_000).findings()
    low, high = sorted(100 * entry.difference for entry in findings.does_adapting_pay)
    assert opening.headline(findings) == f"Adapting pays: +{low:.1f} to +{high:.1f} points of accuracy"


def test_headline_of_equal_strategies_is_undecided(tmp_path: Path) -> None:
    assert headline(tmp_path, SAME).endswith("undecided")


def test_headline_of_losses_is_negative(tmp_path: Path) -> None:
    worse = {**BETTER, "adapted-head": guesses(0.4), "adapted-behavioural": guesses(0.5)}
    assert headline(tmp_path, worse, test=1_000).partition(": ")[2].startswith(MINUS)


def test_headline_of_mixed_verdicts_names_both(tmp_path: Path) -> None:
    mixed = {**SAME, "adapted-head": guesses(0.95)}
    assert mentions(headline(tmp_path, mixed, test=1_000), "pays over `head`", "undecided over `behavioural`")


def test_headline_without_adapted_strategy_names_the_best(tmp_path: Path) -> None:
    stages = {"head": STAGES["head"], "behavioural": STAGES["behavioural"]}
    assert headline(tmp_path, BETTER, stages=stages).startswith("`behavioural` ")


def test_headline_without_classifiers_gives_perplexity(tmp_path: Path) -> None:
    fields = {"stages": {"adapt": {"kind": "adapt"}}, "classes": (), "pairs": False, "seeds": [3, 1, 2]}
    assert mentions(headline(tmp_path, {}, **fields), "403.4", "2.8")


def test_lead_gives_margin_seeds_and_origin_of_the_comparison(tmp_path: Path) -> None:
    findings = Pipeline(tmp_path, BETTER, seeds=[7], hypotheses=["adapted-head > head by 0.5"]).findings()
    stated, unstated = opening.lead(findings)
    assert mentions(stated, "`adapted-head`", "not beat `head`", "50.0 points")
    assert "not state" in unstated
    assert "not state" not in stated
    assert all("With one seed" in paragraph for paragraph in (stated, unstated))


def test_required_evidence_is_rounded_up() -> None:
    both = RequiredEvidence(more_seeds=3, more_examples=1234)
    assert mentions(opening.required_evidence(both), "3 more seeds", "1,300 more")
    assert opening.required_evidence(RequiredEvidence(more_seeds=None, more_examples=None)) == ""


def test_choice_on_the_test_split_is_marked_as_biased(tmp_path: Path) -> None:
    for validation, is_biased in ((0, True), (50, False)):
        findings = Pipeline(tmp_path / str(validation), BETTER, validation=validation).findings()
        assert ("biased" in ship_text(opening.ship(findings))) == is_biased


def test_loss_of_the_simplest_equivalent_strategy_is_given(tmp_path: Path) -> None:
    findings = Pipeline(tmp_path, {**SAME, "head": guesses(0.2)}, test=500).findings()
    assert isinstance(findings.to_ship, ClassifierRecommendation)
    assert findings.to_ship.simplest_of_these == "behavioural"
    (simplest,) = [other for other in findings.to_ship.level_with if other.stage == "behavioural"]
    loss = f"{100 * simplest.difference:.1f} points" if simplest.difference > 0 else "nothing"
    text = ship_text(opening.ship(findings))
    assert mentions(text, f"loses {loss}", f"up to {100 * simplest.interval[1]:.1f}")


def test_command_pulls_the_recommended_artifact(tmp_path: Path) -> None:
    findings = Pipeline(tmp_path, BETTER).findings()
    (command,) = [block for block in opening.ship(findings) if isinstance(block, Command)]
    assert f"/{findings.to_ship.artifact}" in command.lines[0]
