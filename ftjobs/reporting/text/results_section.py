"""Report sections on results and learning curves."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.measures import measure, task_of
from ftjobs.reporting.text.blocks import Block, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, cost, listed, percent, quoted


def results(content: dict[str, Any]) -> Section | None:
    """The results table: accuracy, F1 and cost of every strategy; None without strategies."""
    results = content["results"]
    if not results:
        return None
    has_published = any(row["published"] for row in results)
    by = measure(content)
    header = ["model", f"best {by.name}{by.unit}", "95 % interval", *(column for _, column in by.others), "best epoch"]
    header += ["published (epoch)"] if has_published else []
    header += ["training time", "examples/s", "peak memory", "device"]
    rows = []
    for row in results:
        cells = [
            code(row["stage"]),
            by.spread(**_mean_sd(row[by.key])),
            by.interval(*row[by.key]["interval"]),
            *(by.other(**row[name]) for name, _ in by.others),
            ", ".join(map(str, row["best_epochs"])),
        ]
        if has_published:
            known = row["published"]
            cells.append(f"{percent(known['accuracy'])} ({known['best_epoch']})" if known else "-")
        rows.append([*cells, *cost(row["cost"])])
    shipped = [row["stage"] for row in results].index(content["to_ship"]["stage"])
    table = Table(header, rows, numeric=1, left=frozenset({len(header) - 1}), strong=shipped)
    blocks: list[Block] = [Prose(_rows(content)), table, Prose(_how_to_read(content))]
    if text := about_stopping(results):
        blocks.append(Prose(text))
    if text := about_parameters(results):
        blocks.append(Prose(text))
    if has_published:
        blocks.append(Prose(_about_published(content)))
    caption = f"{by.name[0].upper()}{by.name[1:]} with its 95 % interval."
    if len(content["seeds"]) > 1:
        mean = f"Mean over seeds of the {by.name}" if by.graded else f"Mean {by.name}"
        caption = f"{mean} with its 95 % interval; small dots are single seeds."
    return Section("Results", [*blocks, Plot("results", f"Test {by.name} of every strategy", caption)])


def _rows(content: dict[str, Any]) -> str:
    rows = ", ".join(f"{number:,} {split}" for split, number in content["data"]["rows"].items())
    seeds = f"seeds {', '.join(map(str, content['seeds']))}" if len(content["seeds"]) > 1 else "one seed"
    outputs = task_of(content).describe_outputs(len(content["data"]["classes"]))
    return f"{rows} rows, {outputs}, {seeds}."


def _how_to_read(content: dict[str, Any]) -> str:
    several = len(content["seeds"]) > 1
    names = [quoted(name) for name in content["data"]["classes"]]
    chosen = content["results"][0]["selected_on"]
    spread_of = "Mean ± standard deviation over seeds; the interval is that of the mean. " if several else ""
    measured = {where for row in content["results"] for where in row["cost"]["peak_memory_of"]}
    memory = f", peak memory of the {' or the '.join(sorted(measured))}" if measured else ""
    times = f"Of one seed: time with loading and evaluation, speed in training steps alone{memory}."
    about = task_of(content).metrics_note(names)
    return f"Test split, best epoch chosen on {chosen}. {spread_of}{about} {times}"


_NUMBERS = (
    "The lower the mean squared error the better; strategies are compared by it. Pearson's correlation is of the "
    "values, Spearman's of their ranks; both are 0 where all predictions are the same."
)


def about_stopping(rows: list[dict[str, Any]]) -> str:
    """Of the stages that may stop early: after which epoch each seed did."""
    ended = [
        f"{code(row['stage'])} after epoch {listed([str(epochs) for epochs in row['epochs_run']])} of "
        f"{row['epochs_planned']}"
        for row in rows
        if min(row.get("epochs_run", ()), default=0) < row.get("epochs_planned", 0)
    ]
    return f"With early stopping, training ended for {'; for '.join(ended)}." if ended else ""


def about_parameters(rows: list[dict[str, Any]]) -> str:
    """Of the stages that train a part of the encoder only, or low-rank adapters."""
    trained = [
        f"{code(row['stage'])} {row['parameters']['trained']:,} of {row['parameters']['all']:,}"
        for row in rows
        if "parameters" in row
    ]
    return f"Parameters trained: {listed(trained)}." if trained else ""


def _about_published(content: dict[str, Any]) -> str:
    text = "**Published** are the figures of the study that this job repeats: bert-base-cased, one seed, best epoch "
    text += "chosen on its 214 test rows."
    other = content["reference_encoder_differs"]
    if other is not None:
        text += f" This job's encoder is {code(other)}, so compare the order of the rows, not their level."
    return text


def learning(content: dict[str, Any]) -> Section | None:
    """Accuracy and training loss by epoch; None without strategies."""
    if not content["results"]:
        return None
    loss = task_of(content).loss_name.capitalize()
    band = "Mean over seeds, the band from the lowest seed to the highest. " if len(content["seeds"]) > 1 else ""
    chosen = content["results"][0]["selected_on"]
    return Section(
        "Learning",
        [
            Plot(
                "accuracy",
                f"Test {measure(content).name} by epoch",
                f"{band}Dots mark the epochs that were chosen, on the {chosen} split.",
            ),
            Plot("training-loss", "Training loss by epoch", f"{band}{loss} per example, as training went on."),
        ],
    )


def _mean_sd(figure: dict[str, Any]) -> dict[str, Any]:
    return {"mean": figure["mean"], "sd": figure["sd"]}
