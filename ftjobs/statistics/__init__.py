"""Intervals, paired tests, verdicts on hypotheses, power and calibration: pure functions on arrays."""

from ftjobs.statistics.calibration import Calibration, calibration
from ftjobs.statistics.comparison import (
    Comparison,
    McNemar,
    SignedRank,
    compare,
    holm,
    mcnemar,
    signed_rank,
    verdict,
)
from ftjobs.statistics.intervals import Interval, mean_interval, proportion_interval, score_interval
from ftjobs.statistics.power import Needed, needed

__all__ = [
    "Calibration",
    "Comparison",
    "Interval",
    "McNemar",
    "Needed",
    "SignedRank",
    "calibration",
    "compare",
    "holm",
    "mcnemar",
    "mean_interval",
    "needed",
    "proportion_interval",
    "score_interval",
    "signed_rank",
    "verdict",
]
