"""Reading the passages of a corpus from where the job file says they are, a few at a time: files, or the hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ftjobs.data.readers import hub
from ftjobs.data.readers.columns import TEXT_FIELD, column_of, missing
from ftjobs.data.readers.files import lines_of, read_file
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import CorpusSource, Data

Files = list[tuple[str, AbstractContextManager[Path]]]
"""Names of files, and for each a context in which it is on this machine."""
Fetch = Callable[[str, str], Files]
"""From an s3:// address, and the field that names it, to the files there."""
_DATA_FIELD = re.compile(r"\bdata\.(source|revision|config|format|columns|text|split)\b")


class Passages:
    """The passages of a source, in its order, or with `streaming` a bounded number of them in random order."""

    def __init__(self, settings: CorpusSource, field: str = "corpus", fetch: Fetch | None = None) -> None:
        """
        Args:
            settings: of the corpus.
            field: what errors call it.
            fetch: how to get files from object storage one after the other; without it none are there.
        """
        self._settings, self._field, self._fetch = settings, field, fetch
        self._generator = np.random.default_rng(settings.seed)
        self.provenance: list[dict[str, Any]] = []
        """What was read, in the order of reading: files (name, bytes, sha256) and data sets (hub id, commit)."""

    def __iter__(self) -> Iterator[str]:
        """
        Raises:
            UserError: with the problems of a source that cannot be read.
            FtjobsError: reading failed for a reason that may pass.
        """
        streaming = self._settings.streaming
        with self._its_fields():
            sources = [self._of(source) for source in self._settings.sources]
            if streaming is None:
                yield from chain.from_iterable(sources)
                return
            taken = shuffled(in_turn(sources), streaming.shuffle_buffer, self._generator)
            for _, text in zip(range(streaming.limit), taken, strict=False):
                yield text

    def _of(self, source: str) -> Iterator[str]:
        if "://" in source or local_files.is_local(source):
            for name, here in self._files(source):
                with here as path:
                    size, sha256 = path.stat().st_size, local_files.digest(path)
                    self.provenance.append({"name": name, "bytes": size, "sha256": sha256})
                    yield from self._of_file(path)
        else:
            yield from self._of_hub(source)

    def _files(self, source: str) -> Files:
        """The files of a source, with streaming in random order."""
        field = f"{self._field}.source"
        if "://" in source:
            if self._fetch is None or not source.startswith("s3://"):
                raise UserError(f"{field}: {source!r} cannot be read; give files, s3://bucket/key, or a hub id")
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

    def _of_file(self, path: Path) -> Iterator[str]:
        settings = self._settings
        kind = local_files.format_of(path, settings.format)
        if kind == "text" and settings.text_files != "line":
            yield from _parts_of_text(path, whole=settings.text_files == "file")
            return
        for table in read_file(path, kind, settings.columns, {settings.text: TEXT_FIELD}, gaps=True):
            yield from (text or "" for text in table[settings.text].to_pylist())

    def _of_hub(self, source: str) -> Iterator[str]:
        settings = self._settings
        data = Data(source=source, revision=settings.revision, config=settings.config, text=settings.text)
        values: Iterable[Any]
        if settings.streaming is not None:
            values, origin = hub.stream(data, self._split, settings.seed)
        else:
            loaded, origin = hub.fetch(data)
            rows = loaded[self._split(list(loaded), source)]
            if problems := missing(source, rows.column_names, {settings.text: TEXT_FIELD}):
                raise UserError(problems)
            values = column_of(rows, settings.text)
        self.provenance.append(origin)
        for value in values:
            if not isinstance(value, str | None):
                raise UserError(
                    f"{source}: column {settings.text!r} holds {type(value).__name__}, not text (data.text)"
                )
            yield value or ""

    def _split(self, names: list[str], source: str) -> str:
        """Which split of a hub data set is read."""
        wanted = self._settings.split or ("train" if "train" in names or len(names) != 1 else names[0])
        if wanted not in names:
            raise UserError(
                f"data.split: {source!r} has no split {wanted!r}; set data.split to one of {', '.join(names)}"
            )
        return wanted

    @contextmanager
    def _its_fields(self) -> Iterator[None]:
        """What reads labelled data reads corpora too, and calls their fields those of `data`, which they are not."""
        try:
            yield
        except FtjobsError as error:
            raise type(error)([_DATA_FIELD.sub(rf"{self._field}.\1", one) for one in error.problems]) from error


def in_turn(sources: Iterable[Iterable[str]]) -> Iterator[str]:
    """A text of each source, then the next of each, until all have ended: the first texts are of all of them."""
    live = [iter(source) for source in sources]
    while live:
        for source in list(live):
            try:
                yield next(source)
            except StopIteration:
                live.remove(source)


def shuffled(texts: Iterable[str], size: int, generator: np.random.Generator) -> Iterator[str]:
    """The same texts in random order, as far as a buffer allows: each is drawn from the `size` that are next."""
    buffer: list[str] = []
    for text in texts:
        if len(buffer) < size:
            buffer.append(text)
            continue
        place = int(generator.integers(size))
        yield buffer[place]
        buffer[place] = text
    for place in generator.permutation(len(buffer)):
        yield buffer[place]


def _parts_of_text(path: Path, whole: bool) -> Iterator[str]:
    """The paragraphs of a text file, which end at blank lines; or all of it."""
    lines: list[str] = []
    with lines_of(path) as read:
        for line in read:
            if line.strip() or whole:
                lines.append(line)
            elif lines:
                yield "".join(lines)
                lines = []
    if lines:
        yield "".join(lines)
