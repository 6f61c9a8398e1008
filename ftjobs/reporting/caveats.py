"""What a reader must know before believing the tables, each found by looking and said with its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.evidence import Evidence, Strategy
from ftjobs.reporting.phrases import code, count, interval, listed, percent, points, quoted

#: A share of predictions in one class from which on a seed counts as collapsed.
_COLLAPSED = 0.99
#: Half width of a 95 % interval from which on a test split counts as small: five points.
_WIDE = 0.05
#: Share of test rows in the largest class from which on classes count as unbalanced: this often the uniform share.
_UNBALANCED = 1.5
#: Stages named in a sentence before it says how many more there are.
_NAMED = 6

Caveat = dict[str, Any]
"""`kind`, `text` (prose), `figures` (what the text says, as data)."""


def caveats(evidence: Evidence) -> list[Caveat]:
    """Every caveat that applies, the gravest first."""
    checks: tuple[Callable[[Evidence], Iterator[Caveat]], ...] = (
        *(_selection, _leakage, _one_seed, _collapsed, _no_better_than_majority, _small_test, _class_balance),
        *(_truncated, _untrained_pooler, _adapted_on_held_out, _different_machines),
    )
    return [caveat for check in checks for caveat in check(evidence)]


def _caveat(kind: str, text: str, **figures: Any) -> Caveat:
    return {"kind": kind, "text": text, "figures": figures}


def _selection(evidence: Evidence) -> Iterator[Caveat]:
    """Where the best epoch was chosen, and what choosing gained over simply taking the last."""
    if not evidence.strategies:
        return
    gaps = {one.name: float(np.mean(one.figures("accuracy")) - np.mean(_last(one))) for one in evidence.strategies}
    rows = len(evidence.data.splits["test"])
    shown = _some([f"{code(name)} {points(gap)}" for name, gap in gaps.items()])
    gap = f"Best epoch against last epoch, in points of test accuracy: {shown}."
    if evidence.selected_on == "test":
        text = (
            f"**The best epoch was chosen on the same {rows:,} test rows that it is reported on,** so the figures are "
            f"optimistic. {gap} `data.split.validation_fraction` gives a split to choose on."
        )
    else:
        validation = len(evidence.data.splits["validation"])
        text = (
            f"**The best epoch was chosen on {count(validation, 'validation row')},** not on the test rows it is "
            f"reported on. {gap}"
        )
    yield _caveat("selection", text, selected_on=evidence.selected_on, best_minus_last=gaps)


def _leakage(evidence: Evidence) -> Iterator[Caveat]:
    """Test texts that also stand in training, and what every strategy reaches with and without them."""
    overlap = evidence.summary["overlap"]["test"]
    seen = evidence.in_training
    if not seen.any():
        yield _caveat(
            "leakage",
            f"**No test text stands in training:** none of the {overlap['texts']:,} texts of the {len(seen):,} test "
            "rows, compared without regard to case and white space.",
            rows=len(seen),
            rows_in_training=0,
            accuracy={},
        )
        return
    share = percent(seen.mean(), 0)
    text = (
        f"**{int(seen.sum()):,} of {len(seen):,} test rows ({share} %) have a text that also stands in training** "
        f"({overlap['texts_in_training']:,} of {overlap['texts']:,} test texts). "
    )
    new = int((~seen).sum())
    accuracy = {}
    for one in evidence.strategies:
        entry: dict[str, Any] = {"all": float(one.right.mean()), "in_training": float(one.right[:, seen].mean())}
        if new:
            entry["new"] = float(one.right[:, ~seen].mean())
            found = statistics.proportion_interval(round(entry["new"] * new), new)
            entry["new_interval"] = [found.low, found.high]
        accuracy[one.name] = entry
    if not new:
        text += "Not one row is new, so nothing here says how well a model does on texts that it has not seen. "
    elif evidence.strategies and new < 30:
        text += f"Only {count(new, 'row')} {'is' if new == 1 else 'are'} new, too few to say how much that flatters. "
    text += "`data.split.group_by: connected` keeps rows that share a text on one side."
    yield _caveat(
        "leakage", text, rows=len(seen), rows_in_training=int(seen.sum()), new_rows=new, accuracy=accuracy
    )


def _one_seed(evidence: Evidence) -> Iterator[Caveat]:
    if len(evidence.seeds) > 1:
        return
    yield _caveat(
        "one seed",
        f"**One seed ({evidence.seeds[0]}).** Intervals and verdicts are about these trained models only: they say what "
        "other test rows would do, and not what another run of the same training would. Give `seeds` three or more.",
        seeds=evidence.seeds,
    )


def _collapsed(evidence: Evidence) -> Iterator[Caveat]:
    """Seeds that (nearly) always predict the same class, though the labels do not."""
    found = []
    for one in evidence.strategies:
        for run, predictions in zip(one.runs, one.predictions, strict=True):
            shares = np.bincount(predictions, minlength=len(one.classes)) / len(predictions)
            label_share = np.bincount(one.labels, minlength=len(one.classes)).max() / len(one.labels)
            if shares.max() >= _COLLAPSED > label_share:
                found.append(
                    {
                        "stage": one.name,
                        "seed": run.seed,
                        "class": one.classes[int(shares.argmax())],
                        "share": float(shares.max()),
                    }
                )
    if not found:
        return
    named = _some(
        f"{code(one['stage'])} seed {one['seed']} ({quoted(one['class'])} for {percent(one['share'], 1)} %)"
        for one in found
    )
    runs = sum(len(one.runs) for one in evidence.strategies)
    yield _caveat(
        "collapsed",
        f"**{len(found)} of {runs} trained classifiers {'has' if len(found) == 1 else 'have'} collapsed to one class:** "
        f"{named}. F1 says nothing of such a model; another learning rate, more epochs or warm-up may help.",
        runs=found,
    )


def _no_better_than_majority(evidence: Evidence) -> Iterator[Caveat]:
    """Strategies whose interval holds what one gets by always answering the most frequent class."""
    if not evidence.strategies:
        return
    share, name = _majority(evidence)
    level = []
    for one in evidence.strategies:
        accuracy = float(one.right.mean())
        found = statistics.proportion_interval(round(accuracy * one.right.shape[1]), one.right.shape[1])
        if found.low <= share:
            level.append(one.name)
    if level:
        yield _caveat(
            "no better than the majority class",
            f"**Always answering {quoted(name)} is right on {percent(share)} % of the test rows,** and "
            f"{_some(map(code, level))} {'is' if len(level) == 1 else 'are'} not clearly better than that.",
            majority_accuracy=share,
            stages=level,
        )


def _small_test(evidence: Evidence) -> Iterator[Caveat]:
    if not evidence.strategies:
        return
    rows = len(evidence.data.splits["test"])
    best = max(float(one.right.mean()) for one in evidence.strategies)
    found = statistics.proportion_interval(round(best * rows), rows)
    half = (found.high - found.low) / 2
    if half >= _WIDE:
        text = (
            f"**The test split is small: {count(rows, 'row')}.** One row is {percent(1 / rows)} points, and an accuracy "
            f"of {percent(best)} % is known to ±{percent(half, 1)} points ({interval(found.low, found.high)} %) from "
            "the choice of test rows alone."
        )
        yield _caveat("small test split", text, rows=rows, half_width=half)


def _class_balance(evidence: Evidence) -> Iterator[Caveat]:
    """How the classes are distributed in every split; gravest where one class outweighs the others."""
    labels: dict[str, dict[str, int]] = evidence.summary["labels"]
    if not labels:
        return
    share, name = _majority(evidence)
    classes = len(evidence.data.classes)
    parts = []
    for split, balance in labels.items():
        top = sorted(balance.items(), key=lambda item: -item[1])
        shown = [f"{quoted(one)} {percent(number / max(sum(balance.values()), 1), 1)} %" for one, number in top[:3]]
        more = f" and {len(top) - 3} more" if len(top) > 3 else ""
        parts.append(f"{split} {', '.join(shown)}{more}")
    missing = [one for one, number in labels["train"].items() if not number]
    uneven = share >= min(_UNBALANCED / classes, 0.9)
    lead = (
        f"**Classes are uneven:** always answering {quoted(name)} is right on {percent(share)} % of the test rows."
        if uneven
        else f"**Classes are balanced:** the most frequent of {classes}, {quoted(name)}, has {percent(share)} % of the "
        "test rows."
    )
    untrained = f" {listed([quoted(one) for one in missing[:3]])}: not in training at all." if missing else ""
    yield _caveat(
        "class balance", f"{lead} {'; '.join(parts)}.{untrained}", majority_accuracy=share, majority=name, labels=labels
    )


def _truncated(evidence: Evidence) -> Iterator[Caveat]:
    """Texts that lost their end because they were longer than the stage reads."""
    found: dict[str, dict[str, int]] = {}
    parts = []
    for one in evidence.strategies:
        truncated: dict[str, int] = one.runs[0].metrics["truncated"]
        if any(truncated.values()):
            found[one.name] = truncated
            splits = ", ".join(
                f"{number:,} of {len(evidence.data.splits[split]):,} in {split}"
                for split, number in truncated.items()
                if number
            )
            parts.append(f"{code(one.name)} (limit {one.settings['max_length']} tokens or the encoder's) {splits}")
    for stage in evidence.adaptations:
        metrics = stage.runs[0].metrics
        if metrics["truncated"]:
            found[stage.name] = {"texts": metrics["truncated"]}
            parts.append(f"{code(stage.name)} {metrics['truncated']:,} of {metrics['texts']:,} texts")
    if found:
        longest = max(tokens["max"] for tokens in evidence.summary["tokens"].values())
        text = f"**Texts were cut to fit the encoder:** {_some(parts, '; ')}. The longest has {longest:,} tokens."
        yield _caveat("truncated", text, truncated=found, longest=longest)


def _untrained_pooler(evidence: Evidence) -> Iterator[Caveat]:
    """Frozen encoders whose checkpoint had no pooler: part of the encoder was made up and trained with the head."""
    found = [
        one.name
        for one in evidence.strategies
        if one.settings["freeze_encoder"] and any("pooler" in name for name in one.runs[0].metrics["newly_initialised"])
    ]
    if found:
        yield _caveat(
            "new pooler",
            f"**The checkpoint has no pooler,** so {_some(map(code, found))} trained one from random weights as part "
            "of the head; the frozen head is larger than a linear layer.",
            stages=found,
        )


def _adapted_on_held_out(evidence: Evidence) -> Iterator[Caveat]:
    found = [one.name for one in evidence.adaptations if one.settings["corpus"] == "all"]
    if found:
        yield _caveat(
            "adapted on held-out texts",
            f"**{_some(map(code, found))} read the validation and test texts too, without their labels** "
            "(`corpus: all`): perplexity is measured on texts that were trained on, and accuracy is that of a model "
            "that knows the test texts.",
            stages=found,
        )


def _different_machines(evidence: Evidence) -> Iterator[Caveat]:
    """Times can only be compared when they were measured on the same kind of device."""
    stages = [*evidence.strategies, *evidence.adaptations]
    devices = sorted({f"{r.timing['device']} ({r.timing['mixed_precision']})" for one in stages for r in one.runs})
    if len(devices) > 1:
        yield _caveat(
            "different devices",
            f"**Not all stages ran on the same device:** {', '.join(devices)}. Times cannot be compared.",
            devices=devices,
        )


def _last(strategy: Strategy) -> list[float]:
    return strategy.figures("last", "accuracy")


def _majority(evidence: Evidence) -> tuple[float, str]:
    """Share of the most frequent class among the test rows, and its name."""
    labels = evidence.data.splits["test"].labels
    assert labels is not None
    counts = np.bincount(labels, minlength=len(evidence.data.classes))
    return float(counts.max() / len(labels)), evidence.data.classes[int(counts.argmax())]


def _some(items: Any, separator: str = ", ") -> str:
    """The first few of many, and how many more there are."""
    every = list(items)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return separator.join(every[:_NAMED]) + more
