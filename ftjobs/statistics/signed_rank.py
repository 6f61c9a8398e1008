"""Two trained models on the same test examples, where each example has a score and is not just right or wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftjobs.statistics.comparison import check_pairs


@dataclass(frozen=True)
class SignedRank:
    """Examples on which one of two models has the higher score, and the two-sided p-value of "no difference"."""

    first_higher: int
    second_higher: int
    p_value: float


def signed_rank(first: np.ndarray, second: np.ndarray) -> SignedRank:
    """Wilcoxon's signed-rank test of paired scores; examples without a difference are left out.

    Wilcoxon (1945), Biometrics Bulletin 1, 80-83; for comparing learners: Demsar (2006), JMLR 7, section 3.1.3.

    Args:
        first, second: float (N,), scores of the same examples

    Raises:
        ValueError: their shapes differ, or are not (N,)
    """
    from scipy.stats import wilcoxon

    check_pairs(first, second)
    apart = first - second
    apart = apart[apart != 0]
    p_value = float(wilcoxon(apart).pvalue) if len(apart) else 1.0
    return SignedRank(int((apart > 0).sum()), int((apart < 0).sum()), p_value)
