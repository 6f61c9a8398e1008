"""Select the passages of a corpus to train on and to hold out, and write and read the published corpus."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa

from ftjobs.data import prepared
from ftjobs.data.corpora.decontamination import EvaluationTexts
from ftjobs.data.corpora.near_duplicates import DuplicateFinder, hash_words
from ftjobs.data.memory_mapped import TableFile
from ftjobs.data.overlap import text_keys
from ftjobs.data.prepared import TextColumn
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import CorpusSource

#: Stems of the parquet files of passages, and the name of the record.
TRAIN, HELD_OUT, RECORD = "train", "held-out", "corpus.json"
#: Maximum passages and characters per batch.
_BATCH_PASSAGES, _BATCH_CHARACTERS = 1_000, 4_000_000
#: Maximum examples of each kind in the record, and characters of each.
_MAX_EXAMPLES, _EXAMPLE_LENGTH = 5, 200
#: Default held-out passages: one in this many, up to a maximum.
_HELD_OUT_ONE_IN, _MAX_HELD_OUT = 20, 1_000


class CorpusRecord(TypedDict):
    """The content of `corpus.json`: passages read, dropped and kept, with examples and provenance."""

    read: int
    empty: int
    contaminated: int
    exact_duplicates: int
    near_duplicates: int
    characters: int
    """Characters of the training passages."""
    train: int
    held_out: int
    examples: dict[str, list[dict[str, str]]]
    """Dropped passages: `contaminated`, each with the text that it `holds`; `near_duplicates`, each with the passage
    that it is `like`."""
    most_held: list[dict[str, Any]]
    """The evaluation texts (`text`) that most `passages` were dropped for."""
    provenance: list[dict[str, Any]]
    test_texts: int | None
    """Evaluation texts that were searched for; None without decontamination."""
    test_texts_passed_over: int | None
    """Evaluation texts that were too short to search for; None without decontamination."""


def read(folder: Path) -> tuple[TextColumn, TextColumn]:
    """Return the training passages and the held-out passages of a published corpus. Passages are read lazily."""
    return TextColumn(folder / f"{TRAIN}.parquet", "text"), TextColumn(folder / f"{HELD_OUT}.parquet", "text")


def read_record(folder: Path) -> CorpusRecord:
    """Read `corpus.json`."""
    record: CorpusRecord = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


class CorpusWriter:
    """Collect passages in temporary files, then publish those that remain after cleaning."""

    def __init__(self, settings: CorpusSource, evaluation_texts: EvaluationTexts | None, field: str = "corpus") -> None:
        """
        Args:
            settings: the corpus.
            evaluation_texts: texts that no passage may contain; None disables decontamination.
            field: path of the corpus in the job file, for error messages.
        """
        self._settings, self._evaluation_texts, self._field = settings, evaluation_texts, field
        threshold = None if settings.near_duplicates == "keep" else settings.near_duplicates
        self._duplicates = DuplicateFinder(threshold)
        self._table = TableFile()
        self._read, self._empty, self._kept = 0, 0, 0
        self._dropped_for: Counter[int] = Counter()  # evaluation text -> contaminated passages
        self._examples: dict[str, list[dict[str, str]]] = {"contaminated": [], "near_duplicates": []}

    def add(self, texts: Iterable[str]) -> None:
        """Add passages. Those without words and those that contain an evaluation text are dropped immediately."""
        iterator = iter(texts)
        while batch := _next_batch(iterator):
            self._add_batch(batch)

    def _add_batch(self, batch: list[str]) -> None:
        ids = np.arange(self._read, self._read + len(batch))
        self._read += len(batch)
        words = hash_words(batch)
        keep = words.counts > 0
        self._empty += int((~keep).sum())
        if self._evaluation_texts is not None and len(self._evaluation_texts):
            matches = self._evaluation_texts.find(words)
            for index in np.flatnonzero(matches >= 0):
                self._count_contaminated(batch[index], int(matches[index]))
            keep &= matches < 0
        kept = [batch[index] for index in np.flatnonzero(keep)]
        if kept:
            self._kept += len(kept)
            self._duplicates.add(text_keys([kept])[:, 0], words if keep.all() else hash_words(kept))
            self._table.append(pa.table({"id": ids[keep], "text": pa.array(kept, pa.string())}))

    def _count_contaminated(self, passage: str, text: int) -> None:
        assert self._evaluation_texts is not None
        self._dropped_for[text] += 1
        if len(self._examples["contaminated"]) < _MAX_EXAMPLES:
            self._examples["contaminated"].append(
                {"passage": _shorten(passage), "holds": _shorten(self._evaluation_texts.texts[text])}
            )

    def publish(self, folder: Path, provenance: list[dict[str, Any]]) -> CorpusRecord:
        """Drop duplicates and write `train.parquet`, `held-out.parquet` and `corpus.json`.

        The parquet files have the columns `id` (position in the source) and `text`.

        Args:
            folder: a folder that does not exist yet.
            provenance: the files and data sets that were read.

        Returns:
            The content of `corpus.json`.

        Raises:
            UserError: too few passages remain to train on and to hold out.
        """
        counts = {"read": self._read, "empty": self._empty, "contaminated": sum(self._dropped_for.values())}
        if self._kept < 2:
            raise UserError(f"{self._remaining(counts, self._kept)}; use a larger source, or drop fewer passages")
        table = self._table.mapped()
        first_exact, first_near = self._duplicates.first_occurrences()
        index = np.arange(len(table))
        kept = np.flatnonzero(first_near == index)
        near = np.flatnonzero((first_near != index) & (first_exact == index))
        counts |= {"exact_duplicates": int((first_exact != index).sum()), "near_duplicates": len(near)}
        for row in near[:_MAX_EXAMPLES]:
            passage, original = (_shorten(table["text"][int(number)].as_py()) for number in (row, first_near[row]))
            self._examples["near_duplicates"].append({"passage": passage, "like": original})
        held_out = self._draw_held_out(kept, counts)
        folder.mkdir(parents=True)
        characters = _write_rows(table, np.setdiff1d(kept, held_out), folder, TRAIN)
        _write_rows(table, held_out, folder, HELD_OUT)
        texts = self._evaluation_texts
        record = CorpusRecord(
            read=counts["read"],
            empty=counts["empty"],
            contaminated=counts["contaminated"],
            exact_duplicates=counts["exact_duplicates"],
            near_duplicates=counts["near_duplicates"],
            characters=characters,
            train=len(kept) - len(held_out),
            held_out=len(held_out),
            examples=self._examples,
            most_held=self._most_frequent_matches(),
            provenance=provenance,
            test_texts=None if texts is None else len(texts),
            test_texts_passed_over=None if texts is None else texts.skipped,
        )
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return record

    def _draw_held_out(self, kept: np.ndarray, counts: dict[str, int]) -> np.ndarray:
        """Draw the passages to hold out, by the corpus seed: int64 (H,), ascending."""
        size = self._settings.held_out
        if size is None:
            size = max(1, min(_MAX_HELD_OUT, len(kept) // _HELD_OUT_ONE_IN))
        count = size if isinstance(size, int) else max(1, round(size * len(kept)))
        if count >= len(kept):
            raise UserError(
                f"{self._remaining(counts, len(kept))}, and {self._field}.held_out takes {count} of them, which leaves "
                "none to train on; hold out fewer, or use a larger source"
            )
        drawn = np.random.default_rng([self._settings.seed, 1]).permutation(len(kept))[:count]
        return np.sort(kept[drawn])

    def _remaining(self, counts: dict[str, int], remaining: int) -> str:
        reasons = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if name != "read")
        return f"{self._field}.source: {remaining:,} of {counts['read']:,} passages remain ({reasons})"

    def _most_frequent_matches(self) -> list[dict[str, Any]]:
        """Return the evaluation texts that most passages were dropped for."""
        most = self._dropped_for.most_common(_MAX_EXAMPLES)
        texts = self._evaluation_texts
        return [{"text": _shorten(texts.texts[text]), "passages": count} for text, count in most if texts]


def _write_rows(table: pa.Table, rows: np.ndarray, folder: Path, name: str) -> int:
    """Write the rows at ascending indices to a parquet file, and return the number of characters of their texts."""
    characters = 0

    def parts() -> Iterator[pa.Table]:
        nonlocal characters
        start = 0
        for batch in table.to_batches():
            first, last = np.searchsorted(rows, [start, start + len(batch)])
            part = pa.Table.from_batches([batch]).take(rows[first:last] - start)
            characters += sum(map(len, part["text"].to_pylist()))
            start += len(batch)
            if len(part):
                yield part

    prepared.write_rows(parts(), folder, name)
    return characters


def _next_batch(texts: Iterator[str]) -> list[str]:
    """Return the next passages; an empty list at the end."""
    batch: list[str] = []
    characters = 0
    for text in islice(texts, _BATCH_PASSAGES):
        batch.append(text)
        characters += len(text)
        if characters >= _BATCH_CHARACTERS:
            break
    return batch


def _shorten(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _EXAMPLE_LENGTH else f"{text[: _EXAMPLE_LENGTH - 1]}…"
