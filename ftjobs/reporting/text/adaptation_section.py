"""Report sections on adapt stages and intermediate tasks."""

from __future__ import annotations

from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives import all_figures, all_objectives, get_objective
from ftjobs.reporting.finding import Spread
from ftjobs.reporting.findings.adaptations import AdaptationResult
from ftjobs.reporting.findings.collect import Findings
from ftjobs.reporting.findings.intermediate_tasks import IntermediateResult
from ftjobs.reporting.text.blocks import Block, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import COST_HEADER, code, cost_cells, listed, percent, quoted
from ftjobs.reporting.text.results_section import early_stopping_note, parameters_note
from ftjobs.tasks import get_task


def adaptation(findings: Findings) -> Section | None:
    """Return masked-LM loss and perplexity before and after; None without adapt stages."""
    results = findings.adaptation
    if not results:
        return None
    with_bits = any(result.bits_per_character for result in results)
    with_objective = any(all_figures().keys() & result.before.keys() for result in results)
    header = ["stage", "texts", "masked-LM loss", "perplexity", *(["bits per character"] * with_bits)]
    header += ["masked-token accuracy, %", *(["of the objective, %"] * with_objective), "best epoch", *COST_HEADER]
    rows = [
        [
            code(result.stage),
            f"{result.texts:,}",
            f"{result.before['loss']:.3f} → {_formatted(result.after['loss'], '.3f')}",
            f"{result.before['perplexity']:,.1f} → {_formatted(result.after['perplexity'], ',.1f')}",
            *([_bits(result)] * with_bits),
            f"{percent(result.before['accuracy'], 1)} → {percent(result.after['accuracy'].mean, 1)}",
            *([objective_figures(result)] * with_objective),
            ", ".join(map(str, result.best_epochs)),
            *cost_cells(result.cost),
        ]
        for result in results
    ]
    left = {len(header) - 1, *([5 + with_bits] * with_objective)}
    notes = [early_stopping_note(results), parameters_note(results)]
    blocks: list[Block] = [
        Prose(f"Before → after adapting, on {_evaluation_texts(results)}.{_methods(results)}{_added_words(results)}"),
        Table(header, rows, numeric=1, left=frozenset(left)),
        *(Prose(note) for note in notes if note),
        *_corpora(results),
        Plot("adaptation", "Loss and perplexity on held-out text by epoch", "Epoch 0 is the original encoder."),
    ]
    return Section("Adaptation", blocks)


def _formatted(figure: Spread, spec: str) -> str:
    deviation = "" if figure.sd is None else f" ± {format(figure.sd, spec)}"
    return f"{format(figure.mean, spec)}{deviation}"


def _evaluation_texts(results: list[AdaptationResult]) -> str:
    """Name the texts that losses are measured on."""
    trained_on = any(result.evaluation_texts_also_trained_on for result in results)
    note = ", which are training texts too" if trained_on else ""
    splits = dict.fromkeys(result.evaluated_on for result in results if not result.corpus)
    texts = [f"the texts of the {split} split{note}" for split in splits]
    if stages := [code(result.stage) for result in results if result.corpus]:
        corpora = "its own corpus" if len(stages) == 1 else "their own corpora"
        texts.append(f"held-out passages of {corpora} ({', '.join(stages)})")
    return " or ".join(texts)


def _methods(results: list[AdaptationResult]) -> str:
    """Name the objectives unless all are the default one, and add notes on their metrics."""
    sentence = ""
    if len({(result.method, result.mlm_probability) for result in results}) > 1:
        stages: dict[str, list[str]] = {}
        for result in results:
            method = f"{result.method} ({percent(result.mlm_probability, 0)} %)"
            stages.setdefault(method, []).append(code(result.stage))
        by_method = "; ".join(f"{method}: {listed(names)}" for method, names in stages.items())
        sentence = (
            f" Objectives: {by_method}. Each stage is measured with its own kind of masks, so rows are comparable "
            "before and after, not with each other."
        )
    elif results[0].method != get_objective(Adapt().objective).describe(Adapt()):
        sentence = f" Objective: {results[0].method}."
    for objective in all_objectives():
        names = [code(result.stage) for result in results if objective.figures.keys() & result.before.keys()]
        if names and objective.metrics_note:
            sentence += f" For {listed(names)}, {objective.metrics_note}."
    return sentence


def objective_figures(result: AdaptationResult) -> str:
    """Return further metrics of the objective before and after; a dash without any."""
    figures = [
        f"{name} {percent(result.before[key], 1)} → {percent(result.after[key].mean, 1)}"
        for key, name in all_figures().items()
        if key in result.before
    ]
    return "; ".join(figures) or "-"


def _bits(result: AdaptationResult) -> str:
    bits = result.bits_per_character
    return f"{bits.before:.3f} → {bits.after:.3f}" if bits else "-"


def _added_words(results: list[AdaptationResult]) -> str:
    """Give the number of added words, and the shorter tokenization, of stages that extend the tokenizer."""
    added = [
        f"{code(result.stage)} {words.words:,} words, {words.pieces_per_word[0]:.3f} → {words.pieces_per_word[1]:.3f} "
        "tokens per word"
        for result in results
        if (words := result.vocabulary) is not None
    ]
    if not added:
        return ""
    return (
        f" Words added to the tokenizer: {listed(added)}. Before adapting, their embeddings are newly initialized. "
        "Loss, perplexity and accuracy are per token and not comparable between vocabularies; bits per character are."
    )


def _corpora(results: list[AdaptationResult]) -> list[Block]:
    """Return a table of corpora; empty if every stage trains on the job's texts."""
    rows = []
    for result in results:
        corpus, task = result.corpus, result.task
        if not corpus:
            continue
        perplexity = "-"
        if task:
            perplexity = f"{task.before['perplexity']:,.1f} → {task.after['perplexity'].mean:,.1f}"
        rows.append(
            [
                code(result.stage),
                *(
                    f"{passages:,}"
                    for passages in (
                        corpus["train"],
                        corpus["held_out"],
                        corpus["contaminated"],
                        corpus["exact_duplicates"],
                        corpus["near_duplicates"],
                    )
                ),
                f"{corpus['unit']}, isolated" if corpus["isolate"] else corpus["unit"],
                f"{corpus['tokens_seen']:,}",
                perplexity,
            ]
        )
    if not rows:
        return []
    header = [
        "stage",
        "training passages",
        "held out",
        "with a test text",
        "duplicates",
        "near duplicates",
        "example unit",
        "tokens seen",
    ]
    header += ["perplexity on the job's texts"]
    note = (
        "Corpora: training passages, held-out passages (for perplexity and the choice of the best epoch), and dropped "
        "passages by reason. Perplexity on the job's held-out texts is for information; it does not affect training."
    )
    return [Prose(note), Table(header, rows, numeric=1, left=frozenset({6}))]


def intermediate(findings: Findings) -> Section | None:
    """Return the results of stages on their own data; None without such stages."""
    results = findings.intermediate
    if not results:
        return None
    header = [
        "stage",
        "data",
        "rows",
        "labels",
        "test metrics",
        "95 % interval of the first",
        "best epoch",
        *COST_HEADER,
    ]
    rows = [_intermediate_row(result) for result in results]
    dependents = [
        f"{listed([code(name) for name in result.taken_by])} {'build' if len(result.taken_by) > 1 else 'builds'} on "
        f"{code(result.stage)}"
        for result in results
        if result.taken_by
    ]
    subject = "stage trains on its" if len(results) == 1 else "stages train on their"
    text = (
        f"{len(results)} {subject} own data and {'is' if len(results) == 1 else 'are'} tested on it: these results "
        "are not comparable with those of the strategies."
    )
    if dependents:
        text += f" {'; '.join(dependents)}."
    table = Table(header, rows, numeric=5, left=frozenset({len(header) - 1}))
    return Section("Intermediate tasks", [Prose(text), table])


def _intermediate_row(result: IntermediateResult) -> list[str]:
    task = get_task(result.label_type)
    measure = task.measure
    metrics = [f"{measure.name}{measure.unit} {measure.spread(result.score.mean, result.score.sd)}"]
    for name, header in measure.others:
        metrics.append(f"{header} {measure.other(result.other_metrics[name].mean, result.other_metrics[name].sd)}")
    return [
        code(result.stage),
        quoted(result.provenance.get("hub_id") or result.provenance["files"][0]["name"]),
        ", ".join(f"{number:,} {split}" for split, number in result.rows.items()),
        task.short_outputs(len(result.classes)),
        "; ".join(metrics),
        measure.interval(*result.score.interval),
        ", ".join(map(str, result.best_epochs)),
        *cost_cells(result.cost),
    ]
