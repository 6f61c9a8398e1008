"""Which passages of a corpus are kept, which are held out, and why the others are not: a corpus on its way to disk."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ftjobs.data import prepared
from ftjobs.data.corpora.contamination import HeldTexts
from ftjobs.data.corpora.curated import HELD_OUT, RECORD, TRAIN
from ftjobs.data.corpora.duplicates import Duplicates
from ftjobs.data.corpora.shingles import words_of
from ftjobs.data.memory_mapped import TableFile
from ftjobs.data.overlap import text_keys
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import CorpusSource

#: Passages looked at together, and the characters of them that are enough.
_PASSAGES, _CHARACTERS = 1_000, 4_000_000
_EXAMPLES, _SHOWN = 5, 200
#: Unless the job file says otherwise: one passage in so many, and at most so many.
_ONE_IN, _MOST_HELD_OUT = 20, 1_000


class Curation:
    """Passages go in one after the other, into files; what is kept of them comes out in two parquet files."""

    def __init__(self, settings: CorpusSource, held: HeldTexts | None, field: str = "corpus") -> None:
        """Args: settings: of the corpus; held: texts that no passage may hold; field: what errors call the corpus."""
        self._settings, self._held, self._field = settings, held, field
        threshold = None if settings.near_duplicates == "keep" else settings.near_duplicates
        self._duplicates = Duplicates(threshold)
        self._table = TableFile()
        self._read, self._empty, self._kept = 0, 0, 0
        self._found_in: Counter[int] = Counter()
        self._examples: dict[str, list[dict[str, str]]] = {"contaminated": [], "near_duplicates": []}

    def add(self, texts: Iterable[str]) -> None:
        """Take passages in. Those without words, and those that hold a held text, are dropped at once."""
        iterator = iter(texts)
        while batch := _batch(iterator):
            self._add(batch)

    def _add(self, batch: list[str]) -> None:
        ids = np.arange(self._read, self._read + len(batch))
        self._read += len(batch)
        words = words_of(batch)
        good = words.counts > 0
        self._empty += int((~good).sum())
        if self._held is not None and len(self._held):
            found = self._held.find(words)
            for index in np.flatnonzero(found >= 0):
                self._contaminated(batch[index], int(found[index]))
            good &= found < 0
        kept = [batch[index] for index in np.flatnonzero(good)]
        if kept:
            self._kept += len(kept)
            self._duplicates.add(text_keys([kept])[:, 0], words if good.all() else words_of(kept))
            self._table.append(pa.table({"id": ids[good], "text": pa.array(kept, pa.string())}))

    def _contaminated(self, passage: str, text: int) -> None:
        assert self._held is not None
        self._found_in[text] += 1
        if len(self._examples["contaminated"]) < _EXAMPLES:
            self._examples["contaminated"].append({"passage": _cut(passage), "holds": _cut(self._held.texts[text])})

    def publish(self, folder: Path, provenance: list[dict[str, Any]]) -> dict[str, Any]:
        """Write `train.parquet`, `held-out.parquet` (columns `id`: position in the source, and `text`) and
        `corpus.json`, the record of what was read and dropped, which is returned.

        Raises:
            UserError: too little is left to train on and to hold out.
        """
        counts = {"read": self._read, "empty": self._empty, "contaminated": sum(self._found_in.values())}
        if self._kept < 2:
            raise UserError(f"{self._left_over(counts, self._kept)}; give a source with more, or drop less")
        table = self._table.mapped()
        exact, near = self._duplicates.repeated()
        place = np.arange(len(table))
        first = near == place
        counts |= {"exact_duplicates": int((exact != place).sum())}
        counts |= {"near_duplicates": int((~first & (exact == place)).sum())}
        for index in np.flatnonzero(~first & (exact == place))[:_EXAMPLES]:
            self._examples["near_duplicates"].append(
                {"passage": _cut(table["text"][index].as_py()), "like": _cut(table["text"][near[index]].as_py())}
            )
        kept = np.flatnonzero(first)
        held_out = self._hold_out(kept, counts)
        folder.mkdir(parents=True)
        counts |= {"characters": _write(table, np.setdiff1d(kept, held_out), folder, TRAIN)}
        _write(table, held_out, folder, HELD_OUT)
        counts |= {"train": len(kept) - len(held_out), "held_out": len(held_out)}
        record = {**counts, "examples": self._examples, "most_held": self._most_held(), "provenance": provenance}
        record["test_texts"] = None if self._held is None else len(self._held)
        record["test_texts_passed_over"] = None if self._held is None else self._held.passed_over
        (folder / RECORD).write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return record

    def _hold_out(self, kept: np.ndarray, counts: dict[str, int]) -> np.ndarray:
        """int64 (H,): passages to measure on, ascending; drawn by the corpus' seed."""
        wanted = self._settings.held_out
        if wanted is None:
            wanted = max(1, min(_MOST_HELD_OUT, len(kept) // _ONE_IN))
        count = wanted if isinstance(wanted, int) else max(1, round(wanted * len(kept)))
        if count >= len(kept):
            raise UserError(
                f"{self._left_over(counts, len(kept))}, and {self._field}.held_out takes {count} of them: none is left "
                "to train on; hold out fewer, or give a source with more"
            )
        drawn = np.random.default_rng([self._settings.seed, 1]).permutation(len(kept))[:count]
        return np.sort(kept[drawn])

    def _left_over(self, counts: dict[str, int], left: int) -> str:
        reasons = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in counts.items() if name != "read")
        return f"{self._field}.source: {left:,} of {counts['read']:,} passages are left ({reasons})"

    def _most_held(self) -> list[dict[str, Any]]:
        """The test texts that most passages were dropped for."""
        most = self._found_in.most_common(_EXAMPLES)
        return [{"text": _cut(self._held.texts[text]), "passages": count} for text, count in most if self._held]


def _write(table: pa.Table, rows: np.ndarray, folder: Path, name: str) -> int:
    """Write some rows, ascending, to a parquet file; returns how many characters their texts have."""
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


def _batch(texts: Iterator[str]) -> list[str]:
    """The next passages; none at the end."""
    batch: list[str] = []
    characters = 0
    for text in islice(texts, _PASSAGES):
        batch.append(text)
        characters += len(text)
        if characters >= _CHARACTERS:
            break
    return batch


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
