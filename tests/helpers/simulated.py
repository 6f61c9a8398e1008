"""Simulated experiments with known accuracies: two classifiers, several seeds, the same examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import beta, norm


@dataclass(frozen=True)
class Truth:
    """Parameters of a latent Gaussian model: a classifier is right if its margin of an example exceeds a threshold.

    The margin is the sum of four independent normal variables with these shares of the variance:
    `common`, the difficulty of the example for both classifiers and all seeds;
    `paired`, the example with one seed, for both classifiers (same initialization and batches);
    `single`, the example for one classifier, for all seeds; and an independent rest.
    The accuracy of a classifier with one seed is Beta distributed with mean `accuracy` and standard deviation `seed_sd`.
    """

    seeds: int
    examples: int
    accuracy: tuple[float, float]
    common: float = 0.0
    paired: float = 0.0
    single: float = 0.0
    seed_sd: float = 0.0

    def experiments(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return whether predictions are right, by experiment, classifier, seed and example: bool (count, 2, S, N)."""
        shape = (count, 2, self.seeds, self.examples)
        rest = 1 - self.common - self.paired - self.single
        latent = np.sqrt(rest) * rng.standard_normal(shape, dtype=np.float32)
        for share, axes in ((self.common, (1, 2)), (self.paired, (1,)), (self.single, (2,))):
            if share:
                part = [1 if axis in axes else size for axis, size in enumerate(shape)]
                latent += np.float32(np.sqrt(share)) * rng.standard_normal(part, dtype=np.float32)
        accuracy = np.broadcast_to(np.array(self.accuracy)[:, None], shape[:3])
        if self.seed_sd:
            concentration = accuracy * (1 - accuracy) / self.seed_sd**2 - 1
            accuracy = beta.rvs(accuracy * concentration, (1 - accuracy) * concentration, random_state=rng)
        return latent < norm.ppf(accuracy)[..., None]

    def differences(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return the first classifier minus the second: -1, 0 or 1, (count, S, N)."""
        right = self.experiments(count, rng).astype(np.int8)
        return right[:, 0] - right[:, 1]
