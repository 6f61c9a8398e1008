"""What the user expects of two stages."""

from __future__ import annotations

import math
import re

from ftjobs.jobfile.fields.base import Fields

_HYPOTHESIS = re.compile(r"^\s*(?P<better>\S+)\s*>\s*(?P<worse>\S+?)(?:\s+by\s+(?P<by>\d*\.?\d+))?\s*$")

#: What is said of a margin that no two accuracies can differ by.
TOO_LARGE = "has a margin of 1 or more; accuracies are fractions, so two points are `by 0.02`"


class Hypothesis(Fields):
    """`better > worse [by margin]`: what the user expects of two classify stages.

    The margin is of accuracy, a fraction; where labels are numbers, of the mean squared error, which is to be lower.
    """

    better: str
    worse: str
    by: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Hypothesis:
        """Read `a > b` or `a > b by 0.02`; ValueError when the text is neither, or the margin is not finite."""
        match = _HYPOTHESIS.match(text)
        if match is None:
            raise ValueError("is not of the form `stage > stage` or `stage > stage by 0.02`")
        by = float(match["by"] or 0)
        if not math.isfinite(by):
            raise ValueError(TOO_LARGE)
        return cls(better=match["better"], worse=match["worse"], by=by)
