"""Report sections on adapt stages and intermediate tasks."""

from __future__ import annotations

from typing import Any

from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives import all_figures, all_objectives, get_objective
from ftjobs.reporting.text.blocks import Block, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import code, cost, count, listed, percent, quoted
from ftjobs.reporting.text.results_section import about_parameters, about_stopping
from ftjobs.tasks import get_task


def adaptation(content: dict[str, Any]) -> Section | None:
    """Masked-LM loss and perplexity before and after; None where nothing was adapted."""
    if not content["adaptation"]:
        return None
    own = has_own(content["adaptation"])
    with_bits = has_bits(content["adaptation"])
    header = ["model", "texts", "masked-LM loss", "perplexity", *([_BITS_HEADER] * with_bits), "tokens guessed, %"]
    header += [*([_OBJECTIVE_HEADER] * own), "best epoch", "training time", "examples/s", "peak memory", "device"]
    rows = []
    for row in content["adaptation"]:
        before, after = row["before"], row["after"]
        rows.append(
            [
                code(row["stage"]),
                f"{row['texts']:,}",
                f"{before['loss']:.3f} → {_figure(after['loss'], '.3f')}",
                f"{before['perplexity']:,.1f} → {_figure(after['perplexity'], ',.1f')}",
                *([bits(row)] * with_bits),
                f"{percent(before['accuracy'], 1)} → {percent(after['accuracy']['mean'], 1)}",
                *([own_figures(row)] * own),
                ", ".join(map(str, row["best_epochs"])),
                *cost(row["cost"]),
            ]
        )
    measured = (
        f"Masked language modeling, before → after adapting, measured on {measured_on(content['adaptation'])}."
        f"{methods(content['adaptation'])}{about(content['adaptation'])}"
    )
    plot = Plot(
        "adaptation",
        "Loss and perplexity on held-out text by epoch of adaptation",
        "Epoch 0 is the encoder as it came.",
    )
    table = Table(header, rows, numeric=1, left=frozenset({len(header) - 1, *([5 + with_bits] * own)}))
    more = [Prose(text) for about in (about_stopping, about_parameters) if (text := about(content["adaptation"]))]
    return Section("Adaptation", [Prose(measured), table, *more, *corpora(content["adaptation"]), plot])


def _figure(figure: dict[str, Any], form: str) -> str:
    deviation = "" if figure["sd"] is None else f" ± {format(figure['sd'], form)}"
    return f"{format(figure['mean'], form)}{deviation}"


#: Reasons why passages were dropped, as columns.
_DROPPED = {"contaminated": "hold a test text", "exact_duplicates": "repeated", "near_duplicates": "nearly repeated"}


def corpora(rows: list[dict[str, Any]]) -> list[Block]:
    """A table of the corpora; nothing where every stage learned from the task's texts."""
    rows = [row for row in rows if row["corpus"]]
    if not rows:
        return []
    header = ["model", "passages", "held out", *_DROPPED.values(), "an example", "tokens seen"]
    header += ["perplexity on the task's texts"]
    return [Prose(_WHAT), Table(header, [_row(row) for row in rows], numeric=1, left=frozenset({6}))]


_WHAT = (
    "Corpora: passages to train on, passages that perplexity is measured on and the best epoch is chosen by, and "
    "passages that were dropped. The task's held-out texts are measured beside, and decide nothing here."
)


def measured_on(rows: list[dict[str, Any]]) -> str:
    """The texts that the losses of adaptations are of, in words."""
    seen = ", which were trained on too" if any(row["evaluation_texts_also_trained_on"] for row in rows) else ""
    splits = dict.fromkeys(row["evaluated_on"] for row in rows if not row["corpus"])
    found = [f"the texts of the {split} split{seen}" for split in splits]
    if own := [code(row["stage"]) for row in rows if row["corpus"]]:
        found.append(f"passages held out of {'its' if len(own) == 1 else 'their'} own corpus ({', '.join(own)})")
    return " or ".join(found)


def _row(row: dict[str, Any]) -> list[str]:
    found, task = row["corpus"], row["task"]
    unit = f"{found['unit']}, isolated" if found["isolate"] else found["unit"]
    return [
        code(row["stage"]),
        *(f"{found[name]:,}" for name in ("train", "held_out", *_DROPPED)),
        unit,
        f"{found['tokens_seen']:,}",
        f"{task['before']['perplexity']:,.1f} → {task['after']['perplexity']['mean']:,.1f}" if task else "-",
    ]


_BITS_HEADER = "bits per character"


def has_bits(rows: list[dict[str, Any]]) -> bool:
    """Whether any adapt stage has bits per character, as all of a job have where one adds words."""
    return any("bits_per_character" in row for row in rows)


def bits(row: dict[str, Any]) -> str:
    """Bits per character of an adapt stage, before and after."""
    found = row.get("bits_per_character")
    return f"{found['before']:.3f} → {found['after']:.3f}" if found else "-"


def about(rows: list[dict[str, Any]]) -> str:
    """Of the stages that added words to the tokenizer: how many, and what they spare."""
    added = [
        f"{code(row['stage'])} {row['vocabulary']['words']:,} words, {row['vocabulary']['pieces_per_word'][0]:.3f} → "
        f"{row['vocabulary']['pieces_per_word'][1]:.3f} pieces per word"
        for row in rows
        if "vocabulary" in row
    ]
    if not added:
        return ""
    return (
        f" Words added to the tokenizer: {listed(added)}; before adapting, these words are at their initial embeddings."
        " Loss, perplexity and tokens guessed are per token, so they cannot be compared between vocabularies; bits per "
        "character (the loss of a masked token times the tokens of a character) can."
    )


_OBJECTIVE_HEADER = "of the objective, %"


def methods(rows: list[dict[str, Any]]) -> str:
    """Return the training methods of the stages, unless all are the default one, and notes on their metrics."""
    text = _trained(rows)
    for objective in all_objectives():
        stages = [code(row["stage"]) for row in rows if objective.figures.keys() & row["before"].keys()]
        if stages and objective.metrics_note:
            text += f" For {listed(stages)}, {objective.metrics_note}."
    return text


def has_own(rows: list[dict[str, Any]]) -> bool:
    """Whether any objective measures more than masked tokens."""
    return any(all_figures().keys() & row["before"].keys() for row in rows)


def own_figures(row: dict[str, Any]) -> str:
    """What an objective measures beside masked tokens, before and after; a dash where there is nothing."""
    found = [
        f"{name} {percent(row['before'][key], 1)} → {percent(row['after'][key]['mean'], 1)}"
        for key, name in all_figures().items()
        if key in row["before"]
    ]
    return "; ".join(found) or "-"


def _trained(rows: list[dict[str, Any]]) -> str:
    if len({(row["method"], row["mlm_probability"]) for row in rows}) == 1:
        default = get_objective(Adapt().objective).describe(Adapt())
        return "" if rows[0]["method"] == default else f" Trained by {rows[0]['method']}."
    stages: dict[str, list[str]] = {}
    for row in rows:
        how = f"{row['method']} ({percent(row['mlm_probability'], 0)} %)"
        stages.setdefault(how, []).append(code(row["stage"]))
    alike = "; ".join(f"{listed(names)} by {how}" for how, names in stages.items())
    return (
        f" Trained are {alike}. Each is measured with masks of its own kind, so compare before with after, and "
        "not one row with another."
    )


def _figures(row: dict[str, Any]) -> list[str]:
    """What was reached, by the measures of its labels, and the interval of the first of them."""
    measure = get_task(row["label_type"]).measure
    found = row[measure.key]
    parts = [f"{measure.name}{measure.unit} {measure.spread(found['mean'], found['sd'])}"]
    parts += [f"{header} {measure.other(**row[name])}" for name, header in measure.others]
    return ["; ".join(parts), measure.interval(*found["interval"])]


def intermediate(content: dict[str, Any]) -> Section | None:
    """Figures of the stages on data of their own; None where there are none."""
    found = content.get("intermediate")
    if not found:
        return None
    header = ["model", "data", "rows", "labels", "figures there", "95 % interval of the first", "best epoch"]
    header += ["training time", "examples/s", "peak memory", "device"]
    rows = [
        [
            code(row["stage"]),
            quoted(row["provenance"].get("hub_id") or row["provenance"]["files"][0]["name"]),
            ", ".join(f"{number:,} {split}" for split, number in row["rows"].items()),
            get_task(row["label_type"]).short_outputs(len(row["classes"])),
            *_figures(row),
            ", ".join(map(str, row["best_epochs"])),
            *cost(row["cost"]),
        ]
        for row in found
    ]
    takers = [
        f"{listed([code(name) for name in row['taken_by']])} {'build' if len(row['taken_by']) > 1 else 'builds'} on "
        f"{code(row['stage'])}"
        for row in found
        if row["taken_by"]
    ]
    said = (
        f"{count(len(found), 'stage')} {'was' if len(found) == 1 else 'were'} trained and measured on data of "
        f"{'its' if len(found) == 1 else 'their'} own, each on the test split of that data: no figure here can be "
        "compared with those of the job's strategies."
    )
    if takers:
        said += f" {'; '.join(takers)}."
    return Section(
        "Intermediate tasks", [Prose(said), Table(header, rows, numeric=5, left=frozenset({len(header) - 1}))]
    )
