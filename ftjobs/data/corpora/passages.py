"""Iterate over the passages of a corpus source: local files, object storage, or a Hugging Face data set."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ftjobs.data.readers import hub_datasets
from ftjobs.data.readers.columns import TEXT_FIELD, column_values, missing_columns
from ftjobs.data.readers.files import open_lines, read_file
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import CorpusSource, Data

FileList = list[tuple[str, AbstractContextManager[Path]]]
"""File names, each with a context manager during which a local copy exists."""
Fetch = Callable[[str, str], FileList]
"""Maps an s3:// address, and the field that names it, to its files."""
_DATA_FIELD = re.compile(r"\bdata\.(source|revision|config|format|columns|text|split)\b")


class Passages:
    """The passages of a source, in order, or with `streaming` a limited number of them in random order."""

    def __init__(self, settings: CorpusSource, field: str = "corpus", fetch: Fetch | None = None) -> None:
        """
        Args:
            settings: the corpus.
            field: path of the corpus in the job file, for error messages.
            fetch: downloads files from object storage one at a time; without it, s3:// sources are errors.
        """
        self._settings, self._field, self._fetch = settings, field, fetch
        self._generator = np.random.default_rng(settings.seed)
        self.provenance: list[dict[str, Any]] = []
        """Files (name, bytes, sha256) and data sets (hub id, commit) in the order in which they were read."""

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            UserError: a source cannot be read; contains every problem of the source.
            FtjobsError: reading failed for a possibly temporary reason.
        """
        streaming = self._settings.streaming
        with self._corpus_fields():
            sources = [self._read(source) for source in self._settings.sources]
            if streaming is None:
                yield from chain.from_iterable(sources)
                return
            passages = shuffle(round_robin(sources), streaming.shuffle_buffer, self._generator)
            for _, text in zip(range(streaming.limit), passages, strict=False):
                yield text

    def _read(self, source: str) -> Iterator[str]:
        if "://" in source or local_files.is_local(source):
            for name, local_copy in self._files(source):
                with local_copy as path:
                    size, sha256 = path.stat().st_size, local_files.digest(path)
                    self.provenance.append({"name": name, "bytes": size, "sha256": sha256})
                    yield from self._read_file(path)
        else:
            yield from self._read_hub_dataset(source)

    def _files(self, source: str) -> FileList:
        """Return the files of a source; in random order if streaming."""
        field = f"{self._field}.source"
        if "://" in source:
            if self._fetch is None or not source.startswith("s3://"):
                raise UserError(f"{field}: {source!r} cannot be read; use files, s3://bucket/key, or a hub id")
            files = self._fetch(source, field)
        else:
            root = Path(source).expanduser()
            paths = local_files.expand(source, field)
            files = [
                (path.relative_to(root).as_posix() if root.is_dir() else path.name, nullcontext(path)) for path in paths
            ]
        if self._settings.streaming is None:
            return files
        return [files[index] for index in self._generator.permutation(len(files))]

    def _read_file(self, path: Path) -> Iterator[str]:
        settings = self._settings
        file_format = local_files.format_of(path, settings.format)
        if file_format == "text" and settings.text_files != "line":
            yield from _read_paragraphs(path, whole_file=settings.text_files == "file")
            return
        columns = {settings.text: TEXT_FIELD}
        for table in read_file(path, file_format, settings.columns, columns, allow_missing=True):
            yield from (text or "" for text in table[settings.text].to_pylist())

    def _read_hub_dataset(self, source: str) -> Iterator[str]:
        settings = self._settings
        data = Data(source=source, revision=settings.revision, config=settings.config, text=settings.text)
        values: Iterable[Any]
        if settings.streaming is not None:
            values, provenance = hub_datasets.stream(data, self._choose_split, settings.seed)
        else:
            splits, provenance = hub_datasets.fetch(data)
            rows = splits[self._choose_split(list(splits), source)]
            if problems := missing_columns(source, rows.column_names, {settings.text: TEXT_FIELD}):
                raise UserError(problems)
            values = column_values(rows, settings.text)
        self.provenance.append(provenance)
        for value in values:
            if not isinstance(value, str | None):
                raise UserError(
                    f"{source}: column {settings.text!r} contains {type(value).__name__}, not text; set data.text to a "
                    "column of texts"
                )
            yield value or ""

    def _choose_split(self, names: list[str], source: str) -> str:
        """Choose the split of a hub data set to read."""
        split = self._settings.split or ("train" if "train" in names or len(names) != 1 else names[0])
        if split not in names:
            raise UserError(
                f"data.split: {source!r} has no split {split!r}; set data.split to one of {', '.join(names)}"
            )
        return split

    @contextmanager
    def _corpus_fields(self) -> Iterator[None]:
        """Replace `data` by the path of the corpus in error messages of readers that are shared with labeled data."""
        try:
            yield
        except FtjobsError as error:
            problems = [_DATA_FIELD.sub(rf"{self._field}.\1", problem) for problem in error.problems]
            raise type(error)(problems) from error


def round_robin(sources: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield one text of each source in turn until all sources end."""
    live = [iter(source) for source in sources]
    while live:
        for source in list(live):
            try:
                yield next(source)
            except StopIteration:
                live.remove(source)


def shuffle(texts: Iterable[str], buffer_size: int, generator: np.random.Generator) -> Iterator[str]:
    """Yield texts in random order, each drawn from the next `buffer_size` texts."""
    buffer: list[str] = []
    for text in texts:
        if len(buffer) < buffer_size:
            buffer.append(text)
            continue
        index = int(generator.integers(buffer_size))
        yield buffer[index]
        buffer[index] = text
    for index in generator.permutation(len(buffer)):
        yield buffer[index]


def _read_paragraphs(path: Path, whole_file: bool) -> Iterator[str]:
    """Yield the paragraphs of a text file, which end at blank lines; or the whole file as one text."""
    paragraph: list[str] = []
    with open_lines(path) as lines:
        for line in lines:
            if line.strip() or whole_file:
                paragraph.append(line)
            elif paragraph:
                yield "".join(paragraph)
                paragraph = []
    if paragraph:
        yield "".join(paragraph)
