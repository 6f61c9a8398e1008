"""Variance components of a mean over seeds and test examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Variances in the crossed model value[s, i] = mean + seed[s] + example[i] + residual[s, i].

    With one seed only their sum is observable; it is assigned to `example`.
    """

    seed: float
    example: float
    residual: float


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of a two-way analysis of variance without replication."""

    seed: float
    """Between seeds: S - 1 degrees of freedom, expectation residual + N * seed."""
    example: float
    """Between examples: N - 1 degrees of freedom, expectation residual + S * example."""
    residual: float
    """Seed by example: (S - 1)(N - 1) degrees of freedom; 0 without any."""


def mean_squares(values: np.ndarray) -> MeanSquares:
    """Compute the mean squares of values (S, N) by seed, by example, and of the residual.

    Searle, Casella, McCulloch (1992), Variance Components, section 4.4 (two-way crossed, balanced).
    """
    seeds, examples = values.shape
    by_seed, by_example, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    left = values - by_seed[:, None] - by_example + mean
    freedom = (seeds - 1) * (examples - 1)
    return MeanSquares(
        seed=examples * float(((by_seed - mean) ** 2).sum()) / max(seeds - 1, 1),
        example=seeds * float(((by_example - mean) ** 2).sum()) / max(examples - 1, 1),
        residual=float((left**2).sum()) / freedom if freedom else 0.0,
    )


def components(values: np.ndarray) -> Components:
    """Estimate variance components of values (S, N) by analysis of variance; negative estimates become 0."""
    seeds, examples = values.shape
    squares = mean_squares(values)
    return Components(
        seed=max(squares.seed - squares.residual, 0.0) / examples,
        example=max(squares.example - squares.residual, 0.0) / seeds,
        residual=squares.residual,
    )
