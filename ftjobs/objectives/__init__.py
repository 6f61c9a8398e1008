"""One module per way to adapt an encoder: requirements, examples, loss, evaluation and wording of an objective.

Modules of this folder declare objectives and import neither torch nor transformers. The implementations in `compute/`
may import what `ftjobs.training` may; `Objective.load` imports them.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from ftjobs.objectives.base import Objective

DEFAULT_OBJECTIVE = "mlm"
"""The `objective` of an `adapt` stage that names none."""


@cache
def _registry() -> dict[str, Objective]:
    modules = sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    loaded = [importlib.import_module(f"{__name__}.{name}") for name in modules]
    objectives = [objective for module in loaded for objective in getattr(module, "OBJECTIVES", ())]
    return {objective.name: objective for objective in sorted(objectives, key=lambda objective: objective.name)}


def all_objectives() -> tuple[Objective, ...]:
    """Return every objective, ordered by name.

    Objectives are those listed in `OBJECTIVES` of any module in this folder, which are imported on the first call.
    """
    return tuple(_registry().values())


def get_objective(name: str) -> Objective:
    """Return the objective of a name.

    Raises:
        KeyError: no objective has this name; job files are checked before.
    """
    return _registry()[name]


def objective_names() -> tuple[str, ...]:
    """Return the accepted values of `objective`."""
    return tuple(_registry())


def all_figures() -> dict[str, str]:
    """Return the figures of all objectives: key in metrics, and name in prose."""
    return {key: name for objective in all_objectives() for key, name in objective.figures.items()}


__all__ = [
    "DEFAULT_OBJECTIVE",
    "Objective",
    "all_figures",
    "all_objectives",
    "get_objective",
    "objective_names",
]
