"""What adaptations were trained by, and what their objectives measure beside masked tokens."""

from __future__ import annotations

from typing import Any

from ftjobs.jobfile.fields import OBJECTIVE_FIGURES
from ftjobs.reporting.phrases import code, listed, percent

HEADER = "of the objective, %"


def methods(rows: list[dict[str, Any]]) -> str:
    """What each adaptation was, where they are not all plain masked language modelling of the same share of tokens."""
    said = _trained(rows)
    generators = [code(row["stage"]) for row in rows if "replaced_f1" in row["before"]]
    if generators:
        said += f" Masked-LM figures of {listed(generators)} are those of the generator, which is not what is shipped."
    return said


def has_own(rows: list[dict[str, Any]]) -> bool:
    """Whether any objective measures more than masked tokens."""
    return any(OBJECTIVE_FIGURES.keys() & row["before"].keys() for row in rows)


def own_figures(row: dict[str, Any]) -> str:
    """What an objective measures beside masked tokens, before and after; a dash where there is nothing."""
    found = [
        f"{name} {percent(row['before'][key], 1)} → {percent(row['after'][key]['mean'], 1)}"
        for key, name in OBJECTIVE_FIGURES.items()
        if key in row["before"]
    ]
    return "; ".join(found) or "-"


def _trained(rows: list[dict[str, Any]]) -> str:
    if len({(row["method"], row["mlm_probability"]) for row in rows}) == 1:
        return "" if rows[0]["method"] == "masked language modelling" else f" Trained by {rows[0]['method']}."
    stages: dict[str, list[str]] = {}
    for row in rows:
        how = f"{row['method']} ({percent(row['mlm_probability'], 0)} %)"
        stages.setdefault(how, []).append(code(row["stage"]))
    alike = "; ".join(f"{listed(names)} by {how}" for how, names in stages.items())
    return (
        f" Trained are {alike}. Each is measured with masks of its own kind, so compare before with after, and "
        "not one row with another."
    )
