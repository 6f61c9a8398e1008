"""What a card says of the data that a checkpoint was trained on."""

from __future__ import annotations

from typing import Any

from ftjobs.cards import corpora
from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code, table
from ftjobs.data.prepared import DataSummary

#: Most classes that are listed.
MOST_CLASSES = 30
_MOMENTS = ("min", "median", "max", "mean", "sd")


def section(made: CardContext) -> str:
    """Where the rows are from, how many there are of each label, how they were divided, and what leaks."""
    data = made.data
    splits = list(data["rows"])
    rows = [["all", *(f"{data['rows'][split]:,}" for split in splits)]]
    if made.label_type == "float":
        rows += [[f"{name} label", *(f"{data['labels'][split][name]:.4g}" for split in splits)] for name in _MOMENTS]
        return f"{_provenance(data['provenance'])}\n\n{table(['rows', *splits], rows)}\n\n{_division(data)}"
    for name in made.classes[:MOST_CLASSES]:
        rows.append([code(name), *(f"{data['labels'][split][name]:,}" for split in splits)])
    counts = table(["rows", *splits], rows)
    if len(made.classes) > MOST_CLASSES:
        counts += f"\n\nand {len(made.classes) - MOST_CLASSES} classes more."
    text = f"{_provenance(data['provenance'])}\n\n{counts}\n\n{_division(data)}"
    return (
        text if made.corpus is None else f"{corpora.section(made)}\n\nThe task's data, not trained on here:\n\n{text}"
    )


def _provenance(provenance: dict[str, Any]) -> str:
    if "hub_id" in provenance:
        config = f", configuration {code(provenance['config'])}" if provenance["config"] else ""
        revision, commit = code(provenance["revision"]), code(provenance["commit"])
        return f"{code(provenance['hub_id'])} from the Hugging Face hub{config}, revision {revision}, commit {commit}."
    files = [
        [code(one["name"]), one["split"], f"{one['bytes']:,}", f"`{one['sha256']}`"] for one in provenance["files"]
    ]
    return table(["file", "read as", "bytes", "sha256"], files)


def _division(data: DataSummary) -> str:
    settings, said = data["split"], []
    for split in ("test", "validation"):
        if settings[f"{split}_fraction"] is not None:
            said.append(f"{settings[f'{split}_fraction']:g} of the rows held out for {split}")
        elif split in data["rows"]:
            said.append(f"the source's own {split} split")
    if any(settings[f"{split}_fraction"] is not None for split in ("test", "validation")):
        said.append(f"shuffled with seed {settings['seed']}")
    grouped = settings["group_by"]
    if grouped == "connected":
        said.append("rows that share a text on one side")
    elif grouped:
        said.append(f"rows with the same {code(grouped)} on one side")
    leaked = data["overlap"]["test"]
    return (
        f"Split: {', '.join(said)}. Of the {leaked['rows']:,} test rows, {leaked['rows_in_training']:,} have a text "
        f"that also stands in training ({leaked['texts_in_training']:,} of {leaked['texts']:,} distinct test texts)."
    )
