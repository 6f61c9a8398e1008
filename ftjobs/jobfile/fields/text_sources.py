"""Labeled data (`data:`) and corpora (`corpus:`): sources, columns, splits, cleaning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.common import Fields, Fraction, NonEmpty, Seed
from ftjobs.tasks import DEFAULT_LABEL_TYPE, all_tasks, get_task, task_names

if TYPE_CHECKING:
    LabelType = str
else:
    LabelType = Literal[task_names()]

_LABEL_TYPES = "{} These are transformers' problem types.".format(
    " ".join(f"`{task.name}`: {task.description}" for task in all_tasks())
)


class Split(Fields):
    """Division of the rows into training, validation and test splits."""

    test_fraction: Fraction | None = None
    """Share of the rows in the test split, rounded up as in `datasets.Dataset.train_test_split`. Required unless the
    source has a test split."""
    validation_fraction: Fraction | None = None
    """Share of the remaining rows in the validation split, which selects the best epoch. Without a validation split,
    the best epoch is selected on the test split, and the report states so."""
    seed: Seed = 42
    """Seed of the random division."""
    group_by: NonEmpty | None = None
    """Keep groups of rows in one split, which prevents leakage: `connected` groups rows that share a text in any text
    column, directly or through other rows; a column name groups rows with equal values."""


class Data(Fields):
    """A labeled data set: its source, text and label columns, and splits."""

    source: NonEmpty | dict[Literal["train", "validation", "test"], NonEmpty]
    """Hub id of a data set; path, glob, folder or s3:// address of csv, tsv, jsonl, parquet or txt files (also .gz); or
    one of these per split: `{train: a.csv, test: b.csv}`. Paths are relative to the job file."""
    revision: NonEmpty = "main"
    """Branch, tag or commit of a hub data set. `prepare` records the resolved commit."""
    config: NonEmpty | None = None
    """Configuration (subset) of a hub data set."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"] | None = None
    """Format of the files; by default determined by the suffix of each."""
    columns: Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Column names of csv or tsv files without a header row."""
    text: Annotated[list[NonEmpty], Field(min_length=1, max_length=2)] | NonEmpty
    """Name of the text column, or of two columns for text pairs."""
    label: Annotated[list[NonEmpty], Field(min_length=2)] | NonEmpty | None = None
    """Column of the label: strings or whole numbers, or as `label_type` specifies. Jobs that only adapt need none."""
    label_type: Annotated[LabelType, Field(description=_LABEL_TYPES)] = DEFAULT_LABEL_TYPE
    label_separator: NonEmpty = ","
    """Separator between the names of a row's labels in a column of text (`label_type: multi`). White space around a
    name is ignored, and an empty cell is a row without labels."""
    split: Split = Split()
    """Rows to hold out for validation and test."""

    @property
    def text_columns(self) -> list[str]:
        """Names of the one or two text columns."""
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
        """Return whether both describe the same data, regardless of notation."""
        return {**self.model_dump(), "text": self.text_columns} == {**other.model_dump(), "text": other.text_columns}


class Streaming(Fields):
    """Read a bounded number of passages in random order, without downloading the whole source."""

    limit: Annotated[int, Field(ge=2, le=10**9)]
    """Number of passages to read, before any are dropped."""
    shuffle_buffer: Annotated[int, Field(ge=1, le=10**7)] = 10_000
    """Number of passages in memory, from which the next one is drawn at random. The files of a source are read in
    random order, and several sources in turn, one passage of each, so that a small `limit` covers all of them
    equally."""


class CorpusSource(Fields):
    """The passages of a corpus, read and cleaned once by a stage `<stage>-corpus`."""

    source: Annotated[list[NonEmpty], Field(min_length=1)] | NonEmpty
    """Path, glob, folder or s3:// address of txt, jsonl, parquet, csv or tsv files (also .gz); hub id of a data set; or
    a list of these. Paths are relative to the job file."""
    revision: NonEmpty = "main"
    """Branch, tag or commit of a hub data set. The resolved commit is recorded."""
    config: NonEmpty | None = None
    """Configuration (subset) of a hub data set."""
    split: NonEmpty | None = None
    """Split of a hub data set; by default `train`, or the only split."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"] | None = None
    """Format of the files; by default determined by the suffix of each."""
    columns: Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Column names of csv or tsv files without a header row."""
    text: NonEmpty = "text"
    """Name of the column of passages. Other columns are not read."""
    text_files: Literal["line", "paragraph", "file"] = "line"
    """Unit of a passage in txt files: a line, a paragraph (separated by blank lines), or the whole file."""
    near_duplicates: Annotated[float, Field(ge=0.5, lt=1)] | Literal["keep"] = 0.8
    """Drop passages whose sets of 5-word shingles have at least this Jaccard similarity with an earlier passage,
    estimated by MinHash (Broder 1997; Lee et al. 2022, section 4.2). `keep` drops exact duplicates only."""
    decontaminate: bool = True
    """Drop passages that contain a text of the job's test or validation split as a sequence of words (Brown et al.
    2020, appendix C). Without decontamination, test accuracy may reflect memorization."""
    shortest_test_text: Annotated[int, Field(ge=1)] = 1
    """Minimum words of a test text for `decontaminate`: a text of one common word would drop half of the corpus."""
    held_out: Annotated[int, Field(ge=1)] | Fraction | None = None
    """Number or share of passages held out to measure perplexity; by default one in twenty, at most 1,000. Duplicates
    are dropped before, so held-out passages are not trained on."""
    streaming: Streaming | None = None
    """Read a bounded number of passages in random order; by default all passages, into files."""
    seed: Seed = 42
    """Seed of the held-out passages and of streaming."""

    @property
    def sources(self) -> list[str]:
        """The sources as a list."""
        return [self.source] if isinstance(self.source, str) else list(self.source)

    def same_as(self, other: CorpusSource) -> bool:
        """Return whether both describe the same passages, regardless of notation."""
        return {**self.model_dump(), "source": self.sources} == {**other.model_dump(), "source": other.sources}


class Corpus(CorpusSource):
    """A corpus to adapt to, and the unit of text in one training example."""

    unit: Literal["sentence", "document", "packed"] = "packed"
    """Text in one example. `sentence`: one sentence. `document`: one passage, cut to `max_length`. `packed`: passages
    joined with separators and cut into examples of `max_length` tokens; a passage may continue in the next example
    (FULL-SENTENCES: Liu et al. 2019, section 4.2). The order of packed passages changes every epoch."""
    isolate: bool = False
    """Document masking for `unit: packed`: tokens attend only to tokens of their own passage, and positions restart
    with each passage (block-diagonal attention: Krell et al. 2021, section 3.2)."""

    @model_validator(mode="after")
    def _isolation_needs_packing(self) -> Corpus:
        if self.isolate and self.unit != "packed":
            raise ValueError(
                f"isolate: true requires unit: packed, not unit: {self.unit}, whose examples contain a single text"
            )
        return self

    @classmethod
    def example_fields(cls) -> set[str]:
        """Return the fields that determine examples, not passages."""
        return set(cls.model_fields) - set(CorpusSource.model_fields)

    def of_source(self) -> CorpusSource:
        """Return the fields that determine the passages."""
        fields: dict[str, Any] = self.model_dump(exclude_unset=True, exclude=self.example_fields())
        return CorpusSource.model_validate(fields)
