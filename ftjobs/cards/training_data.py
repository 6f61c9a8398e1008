"""The section on training data of a model card: a labeled data set, or a corpus."""

from __future__ import annotations

from typing import Any

from ftjobs.cards.context import CardContext
from ftjobs.cards.markdown import code, table
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.prepared import DataSummary
from ftjobs.jobfile.fields import Adapt, Corpus

MAX_NAMES = 30
"""Classes or labels that a card lists."""
_EXAMPLES = {
    "sentence": "a sentence",
    "document": "a passage",
    "packed": "as many passages as fit, the last one truncated",
    "pairs": "a pair of segments",
}


def training_data(context: CardContext) -> str:
    """Return provenance, rows per label, division and overlap of the data, after the corpus if there is one."""
    data = context.data
    rows = [["all", *(f"{number:,}" for number in data["rows"].values())]]
    labels = context.task.card_label_rows(data["labels"], context.names, code) if context.names else []
    counts = table(["rows", *data["rows"]], [*rows, *labels[:MAX_NAMES]])
    if len(labels) > MAX_NAMES:
        counts += f"\n\nand {len(labels) - MAX_NAMES} more."
    section = f"{_provenance(data['provenance'])}\n\n{counts}\n\n{_division(data)}"
    if context.corpus is None:
        return section
    return f"{_corpus(context, context.corpus)}\n\nThe data of the task, not used for this training:\n\n{section}"


def _provenance(provenance: dict[str, Any]) -> str:
    if "hub_id" in provenance:
        config = f", configuration {code(provenance['config'])}" if provenance["config"] else ""
        revision, commit = code(provenance["revision"]), code(provenance["commit"])
        return f"{code(provenance['hub_id'])} from the Hugging Face hub{config}, revision {revision}, commit {commit}."
    rows = [
        [code(file["name"]), file["split"], f"{file['bytes']:,}", f"`{file['sha256']}`"] for file in provenance["files"]
    ]
    return table(["file", "split", "bytes", "sha256"], rows)


def _division(data: DataSummary) -> str:
    split, parts = data["split"], []
    for name in ("test", "validation"):
        if (fraction := split[f"{name}_fraction"]) is not None:
            parts.append(f"{fraction:g} of the rows held out for {name}")
        elif name in data["rows"]:
            parts.append(f"the source's {name} split")
    if any(split[f"{name}_fraction"] is not None for name in ("test", "validation")):
        parts.append(f"shuffled with seed {split['seed']}")
    if split["group_by"] == "connected":
        parts.append("rows that share a text in the same split")
    elif split["group_by"]:
        parts.append(f"rows with the same {code(split['group_by'])} in the same split")
    overlap = data["overlap"]["test"]
    return (
        f"Split: {', '.join(parts)}. {overlap['rows_in_training']:,} of {overlap['rows']:,} test rows share a text "
        f"with the training split ({overlap['texts_in_training']:,} of {overlap['texts']:,} distinct test texts)."
    )


def corpus_name(context: CardContext) -> str:
    """Return the first source of the corpus, and the number of further sources."""
    assert context.corpus is not None
    sources = [str(source.get("hub_id") or source["name"]) for source in context.corpus["provenance"]]
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return f"{code(sources[0])}{more}"


def _corpus(context: CardContext, record: CorpusRecord) -> str:
    """Return sources, removed and held-out passages, and the unit of an example."""
    settings = context.run.settings
    assert isinstance(settings, Adapt)
    assert isinstance(settings.corpus, Corpus)
    used = context.metrics["corpus"]
    counts = {
        "read": record["read"],
        "without words": record["empty"],
        "contain a test or validation text": record["contaminated"] if context.is_decontaminated else None,
        "exact duplicates": record["exact_duplicates"],
        "near duplicates": record["near_duplicates"],
        "held out for evaluation": record["held_out"],
        "trained on": record["train"],
    }
    rows = [[name, "not checked" if count is None else f"{count:,}"] for name, count in counts.items()]
    masked = ", without attention between passages" if settings.corpus.isolate else ""
    return "\n\n".join(
        [
            f"A corpus without labels:\n\n{_sources(record['provenance'])}",
            table(["passages", ""], rows),
            f"An example is {_EXAMPLES[used['unit']]}{masked}. Training used {used['tokens_seen']:,} tokens, "
            f"{context.metrics['tokens']:,} per epoch.",
        ]
    )


def _sources(provenance: list[dict[str, Any]]) -> str:
    rows = [
        [code(source["hub_id"]), f"commit `{source['commit']}`"]
        if "hub_id" in source
        else [code(source["name"]), f"{source['bytes']:,} bytes, sha256 `{source['sha256']}`"]
        for source in provenance[:MAX_NAMES]
    ]
    more = f"\n\nand {len(provenance) - len(rows):,} more." if len(provenance) > len(rows) else ""
    return table(["source", "version"], rows) + more
