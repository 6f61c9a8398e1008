"""Report sections on hypotheses and caveats."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.measures import measure
from ftjobs.reporting.text import opening
from ftjobs.reporting.text.blocks import Block, Items, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, p_value


def hypotheses(content: dict[str, Any]) -> Section | None:
    """Verdicts on the job's hypotheses, and on whether adapting pays; None where there is neither."""
    stated = content["hypotheses"]
    own = [one for one in content["does_adapting_pay"] if not one["stated"]]
    if not stated and not own:
        return None
    several = len(content["seeds"]) > 1
    blocks: list[Block] = []
    if stated:
        blocks.append(_verdicts(content, stated))
    else:
        blocks.append(Prose("The job states no hypotheses."))
    if own:
        blocks += [
            Prose("Not stated in the job, compared because they say whether adapting pays:"),
            _verdicts(content, own),
        ]
    if not several:
        blocks.append(Prose("**With one seed a verdict is about these two trained models only.** " + _ONE_SEED))
    by = measure(content)
    blocks.append(Prose((_OF_NUMBERS if by.graded else _OF_SHARES) + _METHOD + (_SEVERAL_SEEDS if several else "")))
    caption = f"Difference in {by.name} with its 95 % interval; the mark is what the hypothesis asks for."
    blocks.append(Plot("hypotheses", f"Differences in {by.name}, and what was expected of them", caption))
    return Section("Hypotheses", [*blocks, _by_seed(content, [*stated, *own])])


_ONE_SEED = "Another run of the same training could turn out otherwise; give `seeds` three or more to cover that."


_OF_SHARES = "Differences are in points of test accuracy. "


_OF_NUMBERS = (
    "A difference is how much lower the mean squared error of the first is on the test rows, so what is better is "
    "positive. "
)


_METHOD = (
    "p is adjusted for all hypotheses of the job together (Holm 1979), and "
    "a verdict is at 5 %: **supported** when the difference exceeds what is asked for, **contradicted** when it falls "
    "short of it, **undecided** when the evidence does not say. Intervals are those of each comparison by itself."
)


_SEVERAL_SEEDS = " They are from a paired bootstrap over seeds and test rows together."


def _verdicts(content: dict[str, Any], entries: list[dict[str, Any]]) -> Table:
    by = measure(content)
    header = ["hypothesis", "verdict", "difference", "95 % interval", "p", "p adjusted", "to decide"]
    rows = [
        [
            code(one["hypothesis"]),
            f"**{one['verdict']}**",
            by.difference(one["difference"]),
            by.difference_interval(*one["interval"]),
            p_value(one["p_value"]),
            p_value(one["adjusted_p_value"]),
            opening.needed(one["needed"]) or "-",
        ]
        for one in entries
    ]
    return Table(header, rows, numeric=2, left=frozenset({6}))


def _by_seed(content: dict[str, Any], entries: list[dict[str, Any]]) -> Table:
    by = measure(content)
    header = ["hypothesis", "seed", "difference", "only the first right", "only the second right", "McNemar p"]
    test = "McNemar's exact test"
    if by.graded:
        header[3:] = ["rows the first is nearer to", "rows the second is nearer to", "Wilcoxon p"]
        test = "Wilcoxon's signed-rank test of the squared errors"
    rows = [
        [
            code(one["hypothesis"]),
            seed,
            by.difference(found["difference"]),
            f"{found['only_better']:,}",
            f"{found['only_worse']:,}",
            p_value(found["p_value"]),
        ]
        for one in entries
        for seed, found in one["seeds"].items()
    ]
    return Table(header, rows, numeric=1, fold=f"Seed by seed, with {test}")


def caveats(content: dict[str, Any]) -> Section | None:
    """What was looked for and found; accuracy with and without rows that leak."""
    blocks: list[Block] = [Items([one["text"] for one in content["caveats"]])]
    by = measure(content)
    leak = next((one["figures"] for one in content["caveats"] if one["kind"] == "leakage"), None)
    if leak and leak["accuracy"]:
        seen, new = leak["rows_in_training"], leak["new_rows"]
        header = ["model", f"all {leak['rows']:,} rows", f"{seen:,} with a text in training"]
        header += [f"{new:,} new", "95 % interval of new"] if new else []
        rows = []
        for stage, found in leak["accuracy"].items():
            cells = [code(stage), by.figure(found["all"]), by.figure(found["in_training"])]
            rows.append([*cells, *([by.figure(found["new"]), by.interval(*found["new_interval"])] if new else [])])
        lead = by.name.capitalize() if by.graded else f"{by.name.capitalize()} in per cent"
        blocks += [
            Prose(f"{lead}, with and without the test rows that have a text in training:"),
            Table(header, rows, numeric=1),
        ]
    return Section("Caveats", blocks)
