"""A job file, its hypotheses and its tracking."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import Field

from ftjobs.jobfile.fields.adapt_stage import Adapt
from ftjobs.jobfile.fields.classify_stage import Classify
from ftjobs.jobfile.fields.common import DnsLabel, Fields, NonEmpty, Seed
from ftjobs.jobfile.fields.encoder import Encoder
from ftjobs.jobfile.fields.text_sources import Corpus, Data
from ftjobs.tasks import Task, get_task

_HYPOTHESIS = re.compile(r"^\s*(?P<better>\S+)\s*>\s*(?P<worse>\S+?)(?:\s+by\s+(?P<by>\d*\.?\d+))?\s*$")
#: Error for a margin that two accuracies cannot differ by.
MARGIN_TOO_LARGE = "has a margin of 1 or more; accuracies are fractions, so two points are `by 0.02`"

Stage = Annotated[Adapt | Classify, Field(discriminator="kind")]


class Hypothesis(Fields):
    """`better > worse [by margin]`: an expected order of two `classify` stages.

    The margin is a difference of accuracy, as a fraction; for regression, of mean squared error, which should be lower.
    """

    better: str
    worse: str
    by: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Hypothesis:
        """Parse `a > b` or `a > b by 0.02`.

        Raises:
            ValueError: another form, or a margin that is not finite.
        """
        match = _HYPOTHESIS.match(text)
        if match is None:
            raise ValueError("is not of the form `stage > stage` or `stage > stage by 0.02`")
        by = float(match["by"] or 0)
        if not math.isfinite(by):
            raise ValueError(MARGIN_TOO_LARGE)
        return cls(better=match["better"], worse=match["worse"], by=by)


class WandbTracking(Fields):
    """Weights & Biases. The API key is read from the environment (WANDB_API_KEY), never from a job file."""

    project: NonEmpty = "ftjobs"
    """Project that runs are logged to."""
    entity: NonEmpty | None = None
    """User or team that owns the project; by default that of the API key."""


class Tracking(Fields):
    """Experiment trackers; by default none."""

    wandb: WandbTracking | None = None
    """Log metrics to Weights & Biases."""


class Defaults(Fields):
    """Default fields of all stages of a kind. Fields of a stage override them."""

    adapt: Adapt | None = None
    """Default fields of `adapt` stages."""
    classify: Classify | None = None
    """Default fields of `classify` stages."""


class Job(Fields):
    """A pipeline: an encoder, a labeled data set, and the strategies to compare on them."""

    name: DnsLabel
    """Name of the pipeline: lower-case letters, digits and dashes. Part of every path in storage and of Kubernetes
    names."""
    encoder: Encoder
    """The encoder that every strategy starts from."""
    data: Data
    """The labeled data set."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default=[42])
    """Seeds of the repetitions of every training stage. More seeds give narrower confidence intervals."""
    defaults: Defaults = Defaults()
    """Default fields of all stages of a kind."""
    stages: Annotated[dict[DnsLabel, Stage], Field(min_length=1)]
    """Training stages by name. `prepare` and `report` are implicit."""
    hypotheses: list[str] = Field(default=[])
    """Expected orders of `classify` stages, `stage > stage` or `stage > stage by 0.02`, which the report tests. The
    margin is a difference of accuracy; for regression, of mean squared error, which should be lower."""
    tracking: Tracking = Tracking()
    """Experiment tracking."""

    def stage(self, name: str) -> Adapt | Classify:
        """Return a stage with the job's defaults for its kind.

        Raises:
            ValidationError: the stage conflicts with the defaults.
        """
        fields = self._merged(name)
        if self.stages[name].kind == "classify":
            metric = self.task(name).default_metric.key
            if metric != Classify.model_fields["metric_for_best"].default:
                fields = {"metric_for_best": metric, **fields}
        return type(self.stages[name]).model_validate(fields)

    def task(self, name: str) -> Task:
        """Return the task of a `classify` stage, from the `label_type` of its data."""
        return get_task((self.own_data(name) or self.data).label_type)

    def stage_encoder(self, name: str) -> str | None:
        """Return the stage whose encoder a stage starts from; None for the job's encoder."""
        encoder: str | None = self._merged(name).get("encoder")
        return encoder

    def own_data(self, name: str) -> Data | None:
        """Return the data of an intermediate task; None if the stage uses the job's data."""
        fields = self._merged(name).get("data")
        if fields is None:
            return None
        data = Data.model_validate(fields)
        return None if data.same_as(self.data) else data

    def own_corpus(self, name: str) -> Corpus | None:
        """Return the corpus of an `adapt` stage; None if it uses the job's texts."""
        fields = self._merged(name).get("corpus")
        return None if fields is None or isinstance(fields, str) else Corpus.model_validate(fields)

    def _merged(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        defaults = self.defaults.adapt if stage.kind == "adapt" else self.defaults.classify
        inherited = defaults.model_dump(exclude_unset=True) if defaults else {}
        return inherited | stage.model_dump(exclude_unset=True)
