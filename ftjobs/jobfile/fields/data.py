"""Labelled data: where it is, which columns matter, how it is split."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.base import Fields, Fraction, NonEmpty, Seed
from ftjobs.tasks import DEFAULT_LABEL_TYPE, all_tasks, get_task, task_names

if TYPE_CHECKING:
    LabelType = str
else:
    LabelType = Literal[task_names()]

_LABEL_TYPES = "{} These are transformers' problem types.".format(
    " ".join(f"`{task.name}`: {task.description}" for task in all_tasks())
)


class Split(Fields):
    """How rows are divided into training, validation and test."""

    test_fraction: Fraction | None = None
    """Share of the rows to hold out for testing (rounded up, as `datasets.train_test_split` does). Without it the
    source must come with a test split of its own."""
    validation_fraction: Fraction | None = None
    """Share of the rows left after the test split to choose the best epoch on. Without it, and without a validation
    split of the source's own, the best epoch is chosen on the test split and the report says so."""
    seed: Seed = 42
    """Seed of the shuffle."""
    group_by: NonEmpty | None = None
    """`connected`: rows that share a text (in any text column) stay on one side. Or a column's name: rows with the
    same value stay on one side."""


class Data(Fields):
    """A labelled data set: where it is, which columns matter, how it is split."""

    source: NonEmpty | dict[Literal["train", "validation", "test"], NonEmpty]
    """Hub id; or a path, glob or folder of csv, tsv, jsonl, parquet or txt files (also .gz); or one of these per split:
    `{train: a.csv, test: b.csv}`. A path in a job file is relative to the job file."""
    revision: NonEmpty = "main"
    """Branch, tag or commit of a hub data set; resolved to a commit and recorded when the job is prepared."""
    config: NonEmpty | None = None
    """Configuration (subset) of a hub data set."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"] | None = None
    """Format of the files, where their names do not tell."""
    columns: Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Column names of csv or tsv files that have no header row."""
    text: Annotated[list[NonEmpty], Field(min_length=1, max_length=2)] | NonEmpty
    """One text column, or two for tasks on pairs of texts."""
    label: Annotated[list[NonEmpty], Field(min_length=2)] | NonEmpty | None = None
    """Column of the label: strings or whole numbers, or as `label_type` specifies. Jobs that only adapt need none."""
    label_type: Annotated[LabelType, Field(description=_LABEL_TYPES)] = DEFAULT_LABEL_TYPE
    label_separator: NonEmpty = ","
    """Separator between the names of a row's labels in a column of text (`label_type: multi`). White space around a
    name is ignored, and an empty cell is a row without labels."""
    split: Split = Split()
    """How rows are divided."""

    @property
    def text_columns(self) -> list[str]:
        """The text columns as a list of one or two names."""
        return [self.text] if isinstance(self.text, str) else list(self.text)

    @property
    def label_columns(self) -> list[str]:
        """The label columns as a list: none, one, or several where the task accepts one column per label."""
        if self.label is None:
            return []
        return [self.label] if isinstance(self.label, str) else list(self.label)

    @model_validator(mode="after")
    def _labels_fit_their_type(self) -> Data:
        task = get_task(self.label_type)
        if self.label is None and self.label_type != DEFAULT_LABEL_TYPE:
            raise ValueError(f"label_type: {self.label_type} needs `label`, the column of the labels")
        if isinstance(self.label, list) and not task.several_columns:
            accepting = " or ".join(other.name for other in all_tasks() if other.several_columns)
            raise ValueError(f"several label columns need label_type: {accepting}, not {self.label_type}")
        joined = task.has_separator and isinstance(self.label, str)
        if self.label_separator != "," and not joined:
            accepting = " or ".join(other.name for other in all_tasks() if other.has_separator)
            raise ValueError(f"label_separator applies only to label_type: {accepting} and a single label column")
        return self

    def same_as(self, other: Data) -> bool:
        """Whether both say the same, whichever way they write it."""
        return {**self.model_dump(), "text": self.text_columns} == {**other.model_dump(), "text": other.text_columns}
