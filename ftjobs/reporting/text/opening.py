"""The opening of a report: headline, evidence for it, and the checkpoint to ship."""

from __future__ import annotations

from ftjobs.reporting.findings.adaptations import AdaptationResult
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.hypotheses import AdaptationComparison, RequiredEvidence
from ftjobs.reporting.findings.recommendation import (
    ClassifierRecommendation,
    EncoderRecommendation,
    IntermediateRecommendation,
)
from ftjobs.reporting.text.blocks import Block, Command, Prose
from ftjobs.reporting.text.phrases import capitalized, code, count, listed, p_equation, round_up
from ftjobs.tasks import get_task

#: Comparisons named one by one; equivalent strategies named one by one.
_MAX_COMPARISONS, _MAX_EQUIVALENT = 3, 4
_PREDICATES = {"supported": "pays", "undecided": "is undecided", "contradicted": "does not pay"}


def headline(findings: Findings) -> str:
    """Return the answer in one line."""
    comparisons = findings.does_adapting_pay
    if not comparisons:
        return _headline_without_comparison(findings)
    subject = "the intermediate task" if all(comparison.intermediate for comparison in comparisons) else "adapting"
    by_verdict = {
        verdict: [comparison for comparison in comparisons if comparison.verdict == verdict] for verdict in _PREDICATES
    }
    by_verdict = {verdict: group for verdict, group in by_verdict.items() if group}
    if len(by_verdict) == 1:
        verdict = next(iter(by_verdict))
        if verdict == "undecided":
            return f"Whether {subject} pays is undecided"
        low, high = (limit(comparison.difference for comparison in comparisons) for limit in (min, max))
        return f"{capitalized(subject)} {_PREDICATES[verdict]}: {findings.measure.gain(low, high)}"
    if len(comparisons) > _MAX_COMPARISONS:
        parts = [f"{_PREDICATES[verdict]} in {len(group)}" for verdict, group in by_verdict.items()]
        return f"In {len(comparisons)} comparisons, {subject} {listed(parts)}"
    parts = [
        f"{_PREDICATES[verdict]} over {listed([code(comparison.worse) for comparison in group])}"
        for verdict, group in by_verdict.items()
    ]
    return f"{capitalized(subject)} {listed(parts)}"


def lead(findings: Findings) -> list[str]:
    """Return the evidence for the headline: a paragraph per comparison of adapted and plain strategies."""
    if not findings.does_adapting_pay:
        return [_lead_without_comparison(findings)]
    paragraphs = [_comparison(findings, entry) for entry in findings.does_adapting_pay[:_MAX_COMPARISONS]]
    more = len(findings.does_adapting_pay) - _MAX_COMPARISONS
    if more > 0:
        paragraphs.append(f"{count(more, 'more comparison')}: see Hypotheses, or `report.json`.")
    return paragraphs


def ship(findings: Findings) -> list[Block]:
    """Return the recommended checkpoint, the reasons, and the command that downloads it."""
    chosen = findings.to_ship
    name = f"{code(chosen.stage)}, seed {chosen.seed}"
    pull = Command([f'ftjobs pull "${{FTJOBS_STORE:-runs}}/{chosen.artifact}" {chosen.stage}'])
    if isinstance(chosen, EncoderRecommendation):
        texts = f"the held-out texts of the {chosen.chosen_on} split"
        if chosen.bits_per_character is not None:
            reason = f"the fewest bits per character on {texts} ({chosen.bits_per_character:.3f}"
        else:
            reason = f"the lowest loss on {texts} ({chosen.loss:.3f}"
        return [Prose(f"**Ship {name}:** {reason}, perplexity {chosen.perplexity:.1f})."), pull]
    if isinstance(chosen, IntermediateRecommendation):
        level = get_task(chosen.label_type).measure.level(chosen.score)
        return [Prose(f"**Ship {name}.** It {level} of its own data."), pull]
    assert isinstance(chosen, ClassifierRecommendation)
    score = findings.measure.level_strong(chosen.score, chosen.interval)
    reasons = f"{_selection(findings, chosen)} {_equivalents(findings, chosen)}"
    return [Prose(f"**Ship {name}.** {score}"), Prose(reasons), pull]


def required_evidence(required: RequiredEvidence | None) -> str:
    """Return the additional evidence as part of a sentence; empty if unknown."""
    if required is None:
        return ""
    parts = []
    if required.more_seeds is not None:
        parts.append(count(round_up(required.more_seeds), "more seed"))
    if required.more_examples is not None:
        parts.append(count(round_up(required.more_examples), "more test row"))
    return f"about {' or '.join(parts)}" if parts else ""


def _comparison(findings: Findings, entry: AdaptationComparison) -> str:
    measure = findings.measure
    scores = {result.stage: result.score.mean for result in findings.results}
    better, worse = code(entry.better), code(entry.worse)
    margin = f" by more than {measure.amount(entry.margin)}" if entry.margin else ""
    claim = {
        "supported": f"**{better} beats {worse}{margin}**",
        "contradicted": f"**{better} does not beat {worse}{margin}**",
        "undecided": f"**Undecided whether {better} beats {worse}{margin}**",
    }[entry.verdict]
    sentences = [
        f"{claim}: {measure.against(scores[entry.better], scores[entry.worse], entry.difference)} (95 % interval "
        f"{measure.difference_interval(*entry.interval)}; {p_equation(entry.adjusted_p_value)})."
    ]
    if required := required_evidence(entry.needed):
        sentences.append(f"A decision would likely take {required}.")
    if len(findings.seeds) == 1:
        sentences.append("With one seed, this compares two trained models, not two ways of training.")
    if entry.also_differ_in:
        sentences.append(f"The two also differ in {listed([code(key) for key in entry.also_differ_in])}.")
    if not entry.stated:
        sentences.append("The job file does not state this hypothesis.")
    return " ".join(sentences)


def _headline_without_comparison(findings: Findings) -> str:
    if not findings.results and not findings.adaptation:
        assert findings.intermediate, "a job has at least one stage"
        task = findings.intermediate[0]
        return f"{code(task.stage)} {get_task(task.label_type).measure.level(task.score.mean, 1)} of its own data"
    if not findings.results:
        before, after = _perplexity(next(row for row in findings.adaptation if row.stage == findings.to_ship.stage))
        return f"Adapting changes perplexity on held-out text from {before:,.1f} to {after:,.1f}"
    best = next(result for result in findings.results if result.stage == findings.to_ship.stage)
    return f"{code(best.stage)} {findings.measure.level(best.score.mean, 1)}"


def _perplexity(result: AdaptationResult) -> tuple[float, float]:
    measured = result.task or result
    return measured.before["perplexity"], measured.after["perplexity"].mean


def _lead_without_comparison(findings: Findings) -> str:
    if not findings.results and not findings.adaptation:
        return "Every stage of this job has its own data, so no results are comparable."
    if not findings.results:
        return (
            "This job has no classifiers: it measures how well the encoder models texts of the domain, not whether "
            "that improves classification. To measure that, add `data.label` and `classify` stages."
        )
    return (
        "This job does not measure whether adapting pays. That takes two `classify` stages with the same settings, one "
        "on the original encoder and one on the encoder of an `adapt` stage."
    )


def _selection(findings: Findings, chosen: ClassifierRecommendation) -> str:
    """Return the reasons for the recommended strategy and seed."""
    measure = findings.measure
    several_seeds = len(findings.seeds) > 1
    extreme = "lowest" if measure.minimize else "highest"
    reasons = []
    if len(findings.results) > 1:
        mean = "mean over seeds" if several_seeds else "score"
        reasons.append(f"it has the {extreme} {mean} of all strategies ({measure.with_unit(chosen.selection_mean)})")
    if several_seeds:
        reasons.append(f"seed {chosen.seed} is its best seed ({measure.with_unit(chosen.selection_seed)})")
    if not reasons:
        return "It is the only strategy."
    sentence = f"Chosen by {measure.name} on the {chosen.chosen_on} split: {', and '.join(reasons)}."
    if chosen.chosen_on == "test":
        return f"{sentence} The job has no validation split, so **this test result is biased upwards.**"
    return f"{sentence} The test split was not used."


def _equivalents(findings: Findings, chosen: ClassifierRecommendation) -> str:
    """Name the strategies that are not significantly different, and the simplest of them."""
    if len(findings.results) == 1:
        return ""
    equivalent, measure = chosen.level_with, findings.measure
    if not equivalent:
        return "Every other strategy differs significantly: the 95 % intervals of the differences exclude zero."
    named = [
        f"{code(other.stage)} ({measure.difference(other.difference)}, {measure.difference_interval(*other.interval)})"
        for other in equivalent[:_MAX_EQUIVALENT]
    ]
    more = [f"{len(equivalent) - _MAX_EQUIVALENT} more"] if len(equivalent) > _MAX_EQUIVALENT else []
    sentence = f"**Not significantly different on the test split:** {listed(named + more)}."
    if chosen.simplest_of_these == chosen.stage:
        return f"{sentence} Of these, {code(chosen.stage)} is also the simplest to train."
    simplest = next(other for other in equivalent if other.stage == chosen.simplest_of_these)
    loss = measure.amount(simplest.difference) if simplest.difference > 0 else "nothing"
    return (
        f"{sentence} Of these, {code(simplest.stage)} is the simplest to train: it loses {loss} in these runs, and up "
        f"to {measure.figure(simplest.interval[1], 1)} within the interval."
    )
