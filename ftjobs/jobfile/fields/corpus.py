"""A corpus of its own for an `adapt` stage: where it is, what is dropped from it, and what an example of it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.base import Fields, Fraction, NonEmpty, Seed


class Streaming(Fields):
    """Reading a bounded part of a source that is larger than this machine, row by row and in random order."""

    limit: Annotated[int, Field(ge=2, le=10**9)]
    """Passages to take, before any are dropped; then reading stops."""
    shuffle_buffer: Annotated[int, Field(ge=1, le=10**7)] = 10_000
    """Passages that are in memory at a time, of which the next one is drawn at random; the files of a source come in
    random order, and the sources of a list in turn, a passage of each: a small limit takes as many of each."""


class CorpusSource(Fields):
    """What passages a corpus has: fetched and cleaned once, by a stage of its own."""

    source: Annotated[list[NonEmpty], Field(min_length=1)] | NonEmpty
    """Path, glob or folder of txt, jsonl, parquet, csv or tsv files (also .gz); s3:// address of such; hub id; or a
    list of these. A path in a job file is relative to the job file."""
    revision: NonEmpty = "main"
    """Branch, tag or commit of a hub data set; resolved to a commit and recorded."""
    config: NonEmpty | None = None
    """Configuration (subset) of a hub data set."""
    split: NonEmpty | None = None
    """Split of a hub data set; `train` unless set, or the only one it has."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"] | None = None
    """Format of the files, where their names do not tell."""
    columns: Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Column names of csv or tsv files that have no header row."""
    text: NonEmpty = "text"
    """Column of the passages. Other columns are not read."""
    text_files: Literal["line", "paragraph", "file"] = "line"
    """What a passage of a txt file is: a line; a paragraph, which ends at a blank line; or the whole file."""
    near_duplicates: Annotated[float, Field(ge=0.5, lt=1)] | Literal["keep"] = 0.8
    """Drop passages whose sets of 5-word runs have at least this Jaccard similarity with an earlier one, as estimated
    by MinHash (Broder 1997; Lee et al. 2022, section 4.2); `keep` drops exact repetitions only."""
    decontaminate: bool = True
    """Drop every passage that holds a text of the job's test or validation split as a run of words (Brown et al. 2020,
    appendix C). On unless said otherwise: without it, accuracy on the test split may be memory."""
    shortest_test_text: Annotated[int, Field(ge=1)] = 1
    """Fewest words of a test text that passages are dropped for: one word is held by half of a corpus."""
    held_out: Annotated[int, Field(ge=1)] | Fraction | None = None
    """Passages, as a number or a share, to measure perplexity on; never trained on. Unless set, one in twenty, at most
    1,000. They are whole passages, and repetitions are dropped before, so none of them is trained on in part."""
    streaming: Streaming | None = None
    """Read only a part of the source, row by row. Without it, all of it is read, into files and not into memory."""
    seed: Seed = 42
    """Seed of what is held out, and of streaming."""

    @property
    def sources(self) -> list[str]:
        """The sources as a list."""
        return [self.source] if isinstance(self.source, str) else list(self.source)

    def same_as(self, other: CorpusSource) -> bool:
        """Whether both say the same, whichever way they write it."""
        return {**self.model_dump(), "source": self.sources} == {**other.model_dump(), "source": other.sources}


class Corpus(CorpusSource):
    """A corpus, and what of it is one training example."""

    unit: Literal["sentence", "document", "packed"] = "packed"
    """`sentence`: each sentence of each passage. `document`: each passage, cut to `max_length`. `packed`: passages one
    after the other with separators between them, each example as long as `max_length` and only the last one shorter;
    a passage that does not fit goes on in the next example (FULL-SENTENCES of Liu et al. 2019, section 4.2). Passages
    are packed in another order in every epoch."""
    isolate: bool = False
    """With `packed`: no attention from one passage to another within an example, and positions that start anew with
    each (block-diagonal attention; Krell et al. 2021, section 3.2)."""

    @model_validator(mode="after")
    def _isolation_needs_packing(self) -> Corpus:
        if self.isolate and self.unit != "packed":
            raise ValueError(
                f"isolate only has a meaning with unit: packed; with unit: {self.unit} every example is one"
            )
        return self

    @classmethod
    def use(cls) -> set[str]:
        """The fields that say what becomes of passages, and not which there are."""
        return set(cls.model_fields) - set(CorpusSource.model_fields)

    def of_source(self) -> CorpusSource:
        """The part that decides which passages there are."""
        said: dict[str, Any] = self.model_dump(exclude_unset=True, exclude=self.use())
        return CorpusSource.model_validate(said)
