"""Report sections on hypotheses and caveats."""

from __future__ import annotations

from collections.abc import Sequence

from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.hypotheses import HypothesisResult
from ftjobs.reporting.findings.leakage import LeakageFigures
from ftjobs.reporting.text.blocks import Block, Items, Plot, Prose, Section, Table
from ftjobs.reporting.text.opening import required_evidence
from ftjobs.reporting.text.phrases import capitalized, code, p_value


def hypotheses(findings: Findings) -> Section | None:
    """Return the verdicts on the job's hypotheses, and on whether adapting pays; None without either."""
    stated = findings.hypotheses
    unstated = [entry for entry in findings.does_adapting_pay if not entry.stated]
    if not stated and not unstated:
        return None
    measure = findings.measure
    blocks: list[Block] = [_verdicts(findings, stated) if stated else Prose("The job file states no hypotheses.")]
    if unstated:
        blocks += [
            Prose("Not stated in the job file, but compared to find out whether adapting pays:"),
            _verdicts(findings, unstated),
        ]
    if len(findings.seeds) == 1:
        blocks.append(Prose(_ONE_SEED))
    method = _MEANING_OF_ERRORS if measure.graded else _MEANING_OF_POINTS
    method += _METHOD + (_SEVERAL_SEEDS if len(findings.seeds) > 1 else "")
    caption = f"Difference in {measure.name} with its 95 % interval; the vertical mark is the margin of the hypothesis."
    plot = Plot("hypotheses", f"Differences in {measure.name}", caption)
    return Section("Hypotheses", [*blocks, Prose(method), plot, _by_seed(findings, [*stated, *unstated])])


_ONE_SEED = (
    "**With one seed, a verdict compares two trained models, not two ways of training.** Set `seeds` to three or more "
    "to include the variation between training runs."
)
_MEANING_OF_POINTS = "Differences are points of test accuracy. "
_MEANING_OF_ERRORS = (
    "Differences are decreases of the error on the test rows, positive if the first strategy is better. "
)
_METHOD = (
    "p-values are adjusted for all hypotheses of the job (Holm 1979); verdicts are at the 5 % level: **supported** if "
    "the difference exceeds the margin, **contradicted** if it falls short of the margin, **undecided** if p is above "
    "0.05. Intervals are not adjusted."
)
_SEVERAL_SEEDS = " They come from a paired bootstrap over seeds and test rows."


def _verdicts(findings: Findings, entries: Sequence[HypothesisResult]) -> Table:
    measure = findings.measure
    header = ["hypothesis", "verdict", "difference", "95 % interval", "p", "p adjusted", "required to decide"]
    rows = [
        [
            code(entry.hypothesis),
            f"**{entry.verdict}**",
            measure.difference(entry.difference),
            measure.difference_interval(*entry.interval),
            p_value(entry.p_value),
            p_value(entry.adjusted_p_value),
            required_evidence(entry.needed) or "-",
        ]
        for entry in entries
    ]
    return Table(header, rows, numeric=2, left=frozenset({6}))


def _by_seed(findings: Findings, entries: Sequence[HypothesisResult]) -> Table:
    measure = findings.measure
    header = ["hypothesis", "seed", "difference", "only the first right", "only the second right", "McNemar p"]
    test = "McNemar's exact test"
    if measure.graded:
        header[3:] = ["rows the first is closer on", "rows the second is closer on", "Wilcoxon p"]
        test = "Wilcoxon's signed-rank test of the squared errors"
    rows = [
        [
            code(entry.hypothesis),
            seed,
            measure.difference(comparison.difference),
            f"{comparison.only_better:,}",
            f"{comparison.only_worse:,}",
            p_value(comparison.p_value),
        ]
        for entry in entries
        for seed, comparison in entry.seeds.items()
    ]
    return Table(header, rows, numeric=1, fold=f"By seed, with {test}")


def caveats(findings: Findings) -> Section:
    """Return the caveats, and the scores with and without leaked rows."""
    blocks: list[Block] = [Items([caveat.text for caveat in findings.caveats])]
    leakage = next((caveat.figures for caveat in findings.caveats if caveat.name == "leakage"), None)
    if isinstance(leakage, LeakageFigures) and leakage.accuracy:
        name = capitalized(findings.measure.name)
        unit = name if findings.measure.graded else f"{name} in per cent"
        blocks += [
            Prose(f"{unit}, with and without the test rows that share a text with the training split:"),
            _leakage_table(findings, leakage),
        ]
    return Section("Caveats", blocks)


def _leakage_table(findings: Findings, leakage: LeakageFigures) -> Table:
    measure = findings.measure
    header = ["strategy", f"all {leakage.rows:,} rows", f"{leakage.rows_in_training:,} sharing a text"]
    if leakage.new_rows:
        header += [f"{leakage.new_rows:,} new", "95 % interval of new"]
    rows = []
    for stage, scores in leakage.accuracy.items():
        cells = [code(stage), measure.figure(scores.all), measure.figure(scores.in_training)]
        if scores.new is not None and scores.new_interval is not None:
            cells += [measure.figure(scores.new), measure.interval(*scores.new_interval)]
        rows.append(cells)
    return Table(header, rows, numeric=1)
