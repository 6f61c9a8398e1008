"""A whole job file."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ftjobs.jobfile.fields.adapt import Adapt
from ftjobs.jobfile.fields.base import DnsLabel, Fields, Seed
from ftjobs.jobfile.fields.classify import Classify
from ftjobs.jobfile.fields.corpus import Corpus
from ftjobs.jobfile.fields.data import Data
from ftjobs.jobfile.fields.encoder import Encoder
from ftjobs.jobfile.fields.tracking import Tracking
from ftjobs.tasks import Task, get_task

Stage = Annotated[Adapt | Classify, Field(discriminator="kind")]


class Defaults(Fields):
    """Fields that every stage of a kind starts from; a stage's own fields win."""

    adapt: Adapt | None = None
    classify: Classify | None = None


class Job(Fields):
    """A pipeline: one encoder, one labelled data set, and the strategies to compare on them."""

    name: DnsLabel
    """Name of the pipeline: lower-case letters, digits and dashes. Part of every path in storage."""
    encoder: Encoder
    """The encoder every strategy starts from."""
    data: Data
    """The labelled data set."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default=[42])
    """Every training stage runs once per seed; more seeds, narrower intervals."""
    defaults: Defaults = Defaults()
    """Fields shared by all stages of a kind."""
    stages: Annotated[dict[DnsLabel, Stage], Field(min_length=1)]
    """The stages to run, by name. `prepare` and `report` are always there and need no entry."""
    hypotheses: list[str] = Field(default=[])
    """What is expected, as `stage > stage` or `stage > stage by 0.02`; the report sets it against what was found. The
    margin is of accuracy, or where labels are numbers of the mean squared error, by which it is to be lower."""
    tracking: Tracking = Tracking()
    """Experiment tracking."""

    def stage(self, name: str) -> Adapt | Classify:
        """A stage with the job's defaults for its kind filled in.

        Raises:
            ValidationError: the stage and the defaults are each valid but not together.
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
        """The stage whose encoder a stage starts from, None for the job's encoder."""
        encoder: str | None = self._merged(name).get("encoder")
        return encoder

    def own_data(self, name: str) -> Data | None:
        """The data that a stage is trained and measured on in place of the job's; None where it is the job's."""
        given = self._merged(name).get("data")
        if given is None:
            return None
        data = Data.model_validate(given)
        return None if data.same_as(self.data) else data

    def own_corpus(self, name: str) -> Corpus | None:
        """The corpus that an adapt stage learns from in place of the job's texts; None where it is these."""
        given = self._merged(name).get("corpus")
        return None if given is None or isinstance(given, str) else Corpus.model_validate(given)

    def _merged(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        defaults = self.defaults.adapt if stage.kind == "adapt" else self.defaults.classify
        inherited = defaults.model_dump(exclude_unset=True) if defaults else {}
        return inherited | stage.model_dump(exclude_unset=True)
