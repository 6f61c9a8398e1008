"""Experiments with a known truth: which examples two classifiers get right, under several seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm


@dataclass(frozen=True)
class Truth:
    """A latent Gaussian model. A classifier is right where its margin of an example is above its seed's threshold.

    The margin is the sum of four independent normal parts with these shares of the variance:
    `common` the example, for both classifiers under all seeds (hard for anyone);
    `paired` the example under one seed, for both classifiers (same start, same batches);
    `own` the example for one classifier under all its seeds; and the rest, which nothing shares.
    The accuracy that a classifier has under a seed is Beta distributed with mean `accuracy` and deviation `seed_sd`.
    """

    seeds: int
    examples: int
    accuracy: tuple[float, float]
    common: float = 0.0
    paired: float = 0.0
    own: float = 0.0
    seed_sd: float = 0.0

    def experiments(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Bool (count, 2, S, N): experiment, classifier, seed, example."""
        shape = (count, 2, self.seeds, self.examples)
        rest = 1 - self.common - self.paired - self.own
        latent = np.sqrt(rest) * rng.standard_normal(shape, dtype=np.float32)
        for share, axes in ((self.common, (1, 2)), (self.paired, (1,)), (self.own, (2,))):
            if share:
                part = [1 if axis in axes else size for axis, size in enumerate(shape)]
                latent += np.float32(np.sqrt(share)) * rng.standard_normal(part, dtype=np.float32)
        accuracy = np.broadcast_to(np.array(self.accuracy)[:, None], shape[:3])
        if self.seed_sd:
            concentration = accuracy * (1 - accuracy) / self.seed_sd**2 - 1
            accuracy = beta.rvs(accuracy * concentration, (1 - accuracy) * concentration, random_state=rng)
        return latent < norm.ppf(accuracy)[..., None]

    def differences(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """-1, 0, 1 (count, S, N): the first classifier minus the second."""
        right = self.experiments(count, rng).astype(np.int8)
        return right[:, 0] - right[:, 1]
