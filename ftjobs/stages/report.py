"""`report`: what every strategy reached, side by side, as Markdown and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from ftjobs.data import prepared
from ftjobs.jobfile.fields import Hypothesis
from ftjobs.plan import Report


def run(settings: Report, seed: int, inputs: dict[str, Path], output: Path) -> dict[str, Any]:
    """Collect the figures of all stages.

    Writes `report.md` and `report.json`. `inputs` are `prepare`, and `<stage>/seed-<n>` for every stage and seed.
    """
    content = collect(settings, inputs)
    (output / "report.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (output / "report.md").write_text(markdown(content), encoding="utf-8")
    return {"stages": {row["stage"]: row["accuracy"] for row in content["results"]}}


def collect(settings: Report, inputs: dict[str, Path]) -> dict[str, Any]:
    """The content of `report.json`: results per stage over its seeds, adaptation, hypotheses, data and caveats."""
    stages: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in settings.stages}
    for role, folder in inputs.items():
        name, _, seed = role.partition("/seed-")
        if name in stages:
            metrics = json.loads((folder / "metrics.json").read_text())
            stages[name][int(seed)] = {**metrics, **json.loads((folder / "timing.json").read_text())}
    classifiers = {name: seeds for name, seeds in stages.items() if "accuracy" in next(iter(seeds.values()))}
    adapted = {name: seeds for name, seeds in stages.items() if name not in classifiers}
    data = prepared.read_summary(inputs["prepare"] / "data")
    selected_on = sorted({one["selected_on"] for seeds in classifiers.values() for one in seeds.values()})
    return {
        "pipeline": settings.pipeline,
        "data": data,
        "selected_on": selected_on,
        "results": [_result(name, seeds) for name, seeds in classifiers.items()],
        "adaptation": [_adaptation(name, seeds) for name, seeds in adapted.items()],
        "hypotheses": [_hypothesis(text, classifiers) for text in settings.hypotheses],
        "caveats": _caveats(data, selected_on, next(iter(stages.values()))),
    }


def _spread(values: list[float]) -> dict[str, float | None]:
    """Mean, and standard deviation over seeds where there are two or more."""
    return {"mean": mean(values), "sd": stdev(values) if len(values) > 1 else None}


def _result(name: str, seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    runs = list(seeds.values())
    return {
        "stage": name,
        "accuracy": _spread([one["accuracy"] for one in runs]),
        "f1": _spread([one["f1"] for one in runs]),
        "train_seconds": _spread([one["train_seconds"] for one in runs]),
        "stage_seconds": _spread([one["stage_seconds"] for one in runs]),
        "seeds": {
            str(seed): {key: one[key] for key in ("accuracy", "f1", "loss", "best_epoch", "last", "device")}
            for seed, one in seeds.items()
        },
    }


def _adaptation(name: str, seeds: dict[int, dict[str, Any]]) -> dict[str, Any]:
    runs = list(seeds.values())
    return {
        "stage": name,
        "before": {key: mean(one["before"][key] for one in runs) for key in ("perplexity", "accuracy")},
        "after": {key: mean(one["best"][key] for one in runs) for key in ("perplexity", "accuracy")},
        "best_epochs": [one["best_epoch"] for one in runs],
        "texts": runs[0]["texts"],
        "stage_seconds": _spread([one["stage_seconds"] for one in runs]),
        "evaluated_on": runs[0]["evaluated_on"],
        "evaluation_texts_also_trained_on": runs[0]["evaluation_texts_also_trained_on"],
    }


def _hypothesis(text: str, classifiers: dict[str, dict[int, dict[str, Any]]]) -> dict[str, Any]:
    """The difference in accuracy of two stages, seed by seed."""
    hypothesis = Hypothesis.parse(text)
    better, worse = classifiers[hypothesis.better], classifiers[hypothesis.worse]
    differences = {str(seed): better[seed]["accuracy"] - worse[seed]["accuracy"] for seed in better}
    return {
        "hypothesis": text,
        "difference": _spread(list(differences.values())),
        "seeds": differences,
        "seeds_that_agree": sum(difference > hypothesis.by for difference in differences.values()),
    }


def _caveats(data: dict[str, Any], selected_on: list[str], runs: dict[int, dict[str, Any]]) -> list[str]:
    """What a reader must know before believing the table, computed from this run."""
    caveats = []
    rows, overlap = data["rows"]["test"], data["overlap"]["test"]
    if "test" in selected_on:
        caveats.append(
            f"The best epoch was chosen on the {rows} test rows that it is reported on, so the figures are optimistic; "
            "`split.validation_fraction` avoids that."
        )
    if overlap["rows_in_training"]:
        caveats.append(
            f"{overlap['rows_in_training']} of {overlap['rows']} test rows ({overlap['texts_in_training']} of "
            f"{overlap['texts']} test texts) have a text that also stands in training; "
            "`split.group_by: connected` avoids that."
        )
    if len(runs) == 1:
        caveats.append("One seed: the table does not say how much of a difference is chance; add `seeds`.")
    return caveats


def markdown(content: dict[str, Any]) -> str:
    """The report as Markdown."""
    data = content["data"]
    rows = ", ".join(f"{count:,} {split}" for split, count in data["rows"].items())
    lines = [f"# {content['pipeline']}", "", f"{rows} rows."]
    if content["results"]:
        lines += ["", "## Results", "", *results_table(content)]
        lines += [
            "",
            f"Accuracy and F1 on the test split, best epoch chosen on {' and '.join(content['selected_on'])}.",
        ]
    if content["adaptation"]:
        lines += ["", "## Adaptation", "", *_adaptation_table(content)]
    if content["hypotheses"]:
        lines += ["", "## Hypotheses", "", *_hypothesis_table(content)]
    if content["caveats"]:
        lines += ["", "## Caveats", "", *(f"- {caveat}" for caveat in content["caveats"])]
    return "\n".join(lines) + "\n"


def results_table(content: dict[str, Any]) -> list[str]:
    """The lines of the results table, in Markdown: one row per classify stage."""
    lines = ["| model | accuracy | F1 | best epoch | training time |", "|---|---:|---:|---:|---:|"]
    for row in content["results"]:
        epochs = ", ".join(str(one["best_epoch"]) for one in row["seeds"].values())
        cells = (_percent(row["accuracy"]), _percent(row["f1"]), epochs, f"{row['stage_seconds']['mean']:.1f} s")
        lines.append(f"| {row['stage']} | {' | '.join(cells)} |")
    return lines


def _adaptation_table(content: dict[str, Any]) -> list[str]:
    lines = [
        "| model | texts | perplexity before | after | tokens guessed before | after | best epoch | training time |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in content["adaptation"]:
        before, after = row["before"], row["after"]
        lines.append(
            f"| {row['stage']} | {row['texts']:,} | {before['perplexity']:.1f} | {after['perplexity']:.1f} "
            f"| {100 * before['accuracy']:.1f} % | {100 * after['accuracy']:.1f} % "
            f"| {', '.join(map(str, row['best_epochs']))} | {row['stage_seconds']['mean']:.1f} s |"
        )
    held_out = content["adaptation"][0]
    seen = ", which were trained on too" if held_out["evaluation_texts_also_trained_on"] else ""
    return [*lines, "", f"Measured on the texts of the {held_out['evaluated_on']} split{seen}."]


def _hypothesis_table(content: dict[str, Any]) -> list[str]:
    lines = ["| hypothesis | difference in accuracy | seed by seed | seeds that agree |", "|---|---:|---|---:|"]
    for row in content["hypotheses"]:
        seeds = ", ".join(f"{100 * difference:+.2f}" for difference in row["seeds"].values())
        difference = _percent(row["difference"], sign="+")
        lines.append(
            f"| {row['hypothesis']} | {difference} | {seeds} | {row['seeds_that_agree']} of {len(row['seeds'])} |"
        )
    return lines


def _percent(spread: dict[str, float | None], sign: str = "") -> str:
    """`85.05`, or `85.05 ± 0.91` where there are several seeds."""
    deviation = "" if spread["sd"] is None else f" ± {100 * spread['sd']:.2f}"
    return f"{100 * (spread['mean'] or 0.0):{sign}.2f}{deviation}"
