"""How sure one may be: intervals, paired tests, verdicts on hypotheses, calibration. Pure functions on arrays."""

from ftjobs.statistics.calibration import Calibration, calibration
from ftjobs.statistics.comparison import Comparison, McNemar, compare, holm, mcnemar, verdict
from ftjobs.statistics.intervals import Interval, mean_interval, proportion_interval, score_interval
from ftjobs.statistics.power import Needed, needed
from ftjobs.statistics.signed_rank import SignedRank, signed_rank

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
