"""Documents of random words."""

from __future__ import annotations

import numpy as np

from tests.helpers.families import WORDS


def documents_of(count: int, seed: int = 0) -> list[str]:
    """Documents of one to nine sentences of three to eight words."""
    generator = np.random.default_rng(seed)

    def sentence() -> str:
        return " ".join(generator.choice(WORDS, size=generator.integers(3, 9))).capitalize() + "."

    return [" ".join(sentence() for _ in range(generator.integers(1, 10))) for _ in range(count)]
