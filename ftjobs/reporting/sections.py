"""The sections of the report: tables and plots of the findings, and the prose that says how to read them."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting import opening, runsection
from ftjobs.reporting.document import Block, Document, Examples, Items, Plot, Prose, Section, Table
from ftjobs.reporting.phrases import (
    code,
    count,
    duration,
    interval,
    listed,
    p_value,
    percent,
    point_interval,
    points,
    size,
    spread,
)
from ftjobs.reporting.matrices import MOST_MATRICES


def document(content: dict[str, Any], job_file: str) -> Document:
    """The report in words, from its findings. `job_file`: the resolved job as YAML."""
    makers = (_results, _hypotheses, _caveats, _learning, _adaptation, _errors, _examples)
    sections = [section for make in makers if (section := make(content)) is not None]
    return Document(
        title=content["pipeline"],
        headline=opening.headline(content),
        lead=opening.lead(content),
        ship=opening.ship(content),
        sections=[*sections, runsection.section(content, job_file)],
    )


def _results(content: dict[str, Any]) -> Section | None:
    results = content["results"]
    if not results:
        return None
    has_published = any(row["published"] for row in results)
    header = ["model", "best accuracy, %", "95 % interval", "F1, %", "best epoch"]
    header += ["published, %", "published epoch"] if has_published else []
    header += ["training time", "examples/s", "peak memory", "device"]
    rows = []
    for row in results:
        cells = [
            code(row["stage"]),
            spread(**_mean_sd(row["accuracy"])),
            interval(*row["accuracy"]["interval"]),
            spread(**row["f1"]),
            ", ".join(map(str, row["best_epochs"])),
        ]
        if has_published:
            known = row["published"]
            cells += [percent(known["accuracy"]), str(known["best_epoch"])] if known else ["", ""]
        rows.append([*cells, *_cost(row["cost"])])
    shipped = [row["stage"] for row in results].index(content["to_ship"]["stage"])
    table = Table(header, rows, numeric=1, left=frozenset({len(header) - 1}), strong=shipped)
    blocks: list[Block] = [Prose(_rows(content)), table, Prose(_how_to_read(content))]
    if has_published:
        blocks.append(Prose(_about_published(content)))
    caption = "Mean accuracy with its 95 % interval; small dots are single seeds."
    return Section("Results", [*blocks, Plot("results", "Test accuracy of every strategy", caption)])


def _rows(content: dict[str, Any]) -> str:
    rows = ", ".join(f"{number:,} {split}" for split, number in content["data"]["rows"].items())
    seeds = f"seeds {', '.join(map(str, content['seeds']))}" if len(content["seeds"]) > 1 else "one seed"
    return f"{rows} rows, {count(len(content['data']['classes']), 'class', 'classes')}, {seeds}."


def _how_to_read(content: dict[str, Any]) -> str:
    several = len(content["seeds"]) > 1
    classes = content["data"]["classes"]
    chosen = content["results"][0]["selected_on"]
    average = "of the second class" if len(classes) == 2 else "averaged over classes"
    spread_of = "Mean ± standard deviation over seeds; the interval is that of the mean. " if several else ""
    times = "Time, speed and memory of one seed: time with loading and evaluation, speed in training steps alone."
    return f"Test split, best epoch chosen on {chosen}. {spread_of}F1 {average}. {times}"


def _about_published(content: dict[str, Any]) -> str:
    text = "**Published** are the figures of the study that this job repeats: bert-base-cased, one seed, best epoch "
    text += "chosen on its 214 test rows."
    other = content["reference_encoder_differs"]
    if other is not None:
        text += f" This job's encoder is {code(other)}, so compare the order of the rows, not their level."
    return text


def _cost(cost: dict[str, Any]) -> list[str]:
    memory = size(cost["peak_memory_bytes"]) if cost["peak_memory_bytes"] is not None else "-"
    speed = cost["examples_per_second"]
    return [duration(cost["stage_seconds"]), f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}", memory, listed(cost["devices"])]


def _hypotheses(content: dict[str, Any]) -> Section | None:
    stated = content["hypotheses"]
    own = [one for one in content["does_adapting_pay"] if not one["stated"]]
    if not stated and not own:
        return None
    several = len(content["seeds"]) > 1
    blocks: list[Block] = []
    if stated:
        blocks.append(_verdicts(stated))
    else:
        blocks.append(Prose("The job states no hypotheses."))
    if own:
        blocks += [Prose("Not stated in the job, compared because they say whether adapting pays:"), _verdicts(own)]
    if not several:
        blocks.append(Prose("**With one seed a verdict is about these two trained models only.** " + _ONE_SEED))
    blocks.append(Prose(_METHOD + (_SEVERAL_SEEDS if several else "")))
    caption = "Difference in accuracy with its 95 % interval; the mark is what the hypothesis asks for."
    blocks.append(Plot("hypotheses", "Differences in accuracy, and what was expected of them", caption))
    return Section("Hypotheses", [*blocks, _by_seed([*stated, *own])])


_ONE_SEED = "Another run of the same training could turn out otherwise; give `seeds` three or more to cover that."
_METHOD = (
    "Differences are in points of test accuracy. p is adjusted for all hypotheses of the job together (Holm 1979), and a "
    "verdict is at 5 %: **supported** when the difference exceeds what is asked for, **contradicted** when it falls "
    "short of it, **undecided** when the evidence does not say."
)
_SEVERAL_SEEDS = " Intervals are from a paired bootstrap over seeds and test rows together."


def _verdicts(entries: list[dict[str, Any]]) -> Table:
    header = ["hypothesis", "verdict", "difference", "95 % interval", "p", "p adjusted", "to decide"]
    rows = [
        [
            code(one["hypothesis"]),
            f"**{one['verdict']}**",
            points(one["difference"]),
            point_interval(*one["interval"]),
            p_value(one["p_value"]),
            p_value(one["adjusted_p_value"]),
            opening.needed(one["needed"]) or "-",
        ]
        for one in entries
    ]
    return Table(header, rows, numeric=2, left=frozenset({6}))


def _by_seed(entries: list[dict[str, Any]]) -> Table:
    header = ["hypothesis", "seed", "difference", "only the first right", "only the second right", "McNemar p"]
    rows = [
        [
            code(one["hypothesis"]),
            seed,
            points(found["difference"]),
            f"{found['only_better']:,}",
            f"{found['only_worse']:,}",
            p_value(found["p_value"]),
        ]
        for one in entries
        for seed, found in one["seeds"].items()
    ]
    return Table(header, rows, numeric=1, fold="Seed by seed, with McNemar's exact test")


def _caveats(content: dict[str, Any]) -> Section | None:
    blocks: list[Block] = [Items([one["text"] for one in content["caveats"]])]
    leak = next((one["figures"] for one in content["caveats"] if one["kind"] == "leakage"), None)
    if leak and leak["accuracy"]:
        seen, new = leak["rows_in_training"], leak["new_rows"]
        header = ["model", f"all {leak['rows']:,} rows", f"{seen:,} with a text in training"]
        header += [f"{new:,} new", "95 % interval of new"] if new else []
        rows = []
        for stage, found in leak["accuracy"].items():
            cells = [code(stage), percent(found["all"]), percent(found["in_training"])]
            rows.append([*cells, *([percent(found["new"]), interval(*found["new_interval"])] if new else [])])
        blocks += [
            Prose("Accuracy in per cent, with and without the test rows that have a text in training:"),
            Table(header, rows, numeric=1),
        ]
    return Section("Caveats", blocks)


def _learning(content: dict[str, Any]) -> Section | None:
    if not content["results"]:
        return None
    band = "Mean over seeds, the band from the lowest seed to the highest. " if len(content["seeds"]) > 1 else ""
    chosen = content["results"][0]["selected_on"]
    return Section(
        "Learning",
        [
            Plot(
                "accuracy",
                "Test accuracy by epoch",
                f"{band}Dots mark the epochs that were chosen, on the {chosen} split.",
            ),
            Plot("training-loss", "Training loss by epoch", f"{band}Cross-entropy per example."),
        ],
    )


def _adaptation(content: dict[str, Any]) -> Section | None:
    if not content["adaptation"]:
        return None
    header = ["model", "texts", "MLM loss before", "after", "perplexity before", "after ", "tokens guessed before, %"]
    header += ["after  ", "best epoch", "training time", "examples/s", "peak memory", "device"]
    rows = []
    for row in content["adaptation"]:
        before, after = row["before"], row["after"]
        rows.append(
            [
                code(row["stage"]),
                f"{row['texts']:,}",
                f"{before['loss']:.3f}",
                _figure(after["loss"], ".3f"),
                f"{before['perplexity']:,.1f}",
                _figure(after["perplexity"], ",.1f"),
                percent(before["accuracy"], 1),
                percent(after["accuracy"]["mean"], 1),
                ", ".join(map(str, row["best_epochs"])),
                *_cost(row["cost"]),
            ]
        )
    first = content["adaptation"][0]
    seen = ", which were trained on too" if first["evaluation_texts_also_trained_on"] else ""
    measured = f"Masked language modelling, measured on the texts of the {first['evaluated_on']} split{seen}."
    plot = Plot("adaptation", "Loss and perplexity on held-out text by epoch of adaptation", "Epoch 0 is the encoder as it came.")
    table = Table(header, rows, numeric=1, left=frozenset({len(header) - 1}))
    return Section("Adaptation", [Prose(measured), table, plot])


def _errors(content: dict[str, Any]) -> Section | None:
    if not content["results"]:
        return None
    caption = "Rows are the true class, columns the predicted one: share of the row, and test rows per seed."
    if len(content["confusion"]) > MOST_MATRICES:
        caption += f" The {MOST_MATRICES} most accurate strategies; all are in `report.json`."
    errors = {one["stage"]: one["ece"] for one in content["calibration"]}
    ece = Table(
        ["model", "expected calibration error, %"], [[code(name), spread(**one)] for name, one in errors.items()], numeric=1
    )
    calibrated = (
        "A model is calibrated when it is right as often as it is sure. The expected calibration error is the mean "
        "distance from that, over 15 bins (Guo et al. 2017)."
    )
    return Section(
        "Errors and confidence",
        [
            Plot("confusion", "Confusion matrices", caption),
            Prose(calibrated),
            ece,
            Plot("calibration", "How often a model is right, by how sure it is", "Larger dots stand for more test rows."),
        ],
    )


def _examples(content: dict[str, Any]) -> Section | None:
    found = content["disagreements"]
    if not found["examples"]:
        return None
    shown = len(found["examples"])
    total = content["data"]["rows"]["test"]
    if found["kind"] == "errors":
        title = "Errors made with most confidence"
        text = f"Every seed is wrong on {found['rows']:,} of {total:,} test rows; these {shown} with most confidence."
    else:
        title = "Where strategies disagree most"
        text = (
            f"Strategies disagree on {found['rows']:,} of {total:,} test rows. Here are the {shown} on which their "
            "probabilities differ most: for somebody who knows the domain to read."
        )
    return Section(title, [Prose(text), Examples(found["examples"], content["data"]["text_columns"])])


def _mean_sd(figure: dict[str, Any]) -> dict[str, Any]:
    return {"mean": figure["mean"], "sd": figure["sd"]}


def _figure(figure: dict[str, Any], form: str) -> str:
    deviation = "" if figure["sd"] is None else f" ± {format(figure['sd'], form)}"
    return f"{format(figure['mean'], form)}{deviation}"
