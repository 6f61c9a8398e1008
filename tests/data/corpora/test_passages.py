"""Passages of files and hub data sets, completely or streamed."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from ftjobs.data.corpora.passages import Passages, shuffle
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import CorpusSource, Streaming
from tests.helpers.messages import mentions


def passages(source: Any, **settings: Any) -> Passages:
    source = [str(path) for path in source] if isinstance(source, list) else str(source)
    return Passages(CorpusSource(source=source, **settings), "stages.adapt.corpus")


def read_problems(source: Any, **settings: Any) -> list[str]:
    with pytest.raises(UserError) as caught:
        list(passages(source, **settings))
    return caught.value.problems


def numbered_texts(count: int) -> list[str]:
    return [f"passage {number}" for number in range(count)]


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps({"id": 1, "text": row}) + "\n" for row in rows)
    return path


def test_files_of_every_format_are_read_in_name_order(tmp_path):
    write_jsonl(tmp_path / "a/train.jsonl.gz", ["one", None, "", "two"])
    (tmp_path / "b.csv").write_text("text,other\nthree,\n,x\n")
    pq.write_table(pa.table({"text": ["four", None], "n": [1, 2]}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("five\n\nsix\n")
    (tmp_path / ".hidden.txt").write_text("no")
    texts = passages(tmp_path)
    assert list(texts) == ["one", "", "", "two", "three", "", "four", "", "five", "six"]
    assert [file["name"] for file in texts.provenance] == ["a/train.jsonl.gz", "b.csv", "c.parquet", "d.txt"]
    assert all(len(file["sha256"]) == 64 and file["bytes"] for file in texts.provenance)


def test_list_of_sources_with_another_text_column(tmp_path):
    (tmp_path / "a.csv").write_text("body\none\n")
    (tmp_path / "b.tsv").write_text("body\ttext\ntwo\tno\n")
    assert list(passages([tmp_path / "b.tsv", tmp_path / "*.csv"], text="body")) == ["two", "one"]


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("line", ["A b.", "c d", "E.", "F."]),
        ("paragraph", ["A b.\nc d\n", "E.\nF."]),
        ("file", ["\nA b.\nc d\n \n\nE.\nF."]),
    ],
)
def test_text_files_are_split_into_passages(tmp_path, unit, expected):
    (tmp_path / "a.txt").write_text("\nA b.\nc d\n \n\nE.\nF.")
    assert list(passages(tmp_path / "a.txt", text_files=unit)) == expected


def test_problems_contain_field_and_place(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ["one"])
    problem = read_problems(tmp_path / "a.jsonl", text="body")[0]
    assert "'body' (stages.adapt.corpus.text); columns: 'id', 'text'" in problem
    (tmp_path / "b.jsonl").write_text('{"text": "one"}\n{"text": 7}\n')
    problem = read_problems(tmp_path / "b.jsonl")[0]
    assert f"{tmp_path}/b.jsonl, line 2: column 'text' is 7" in problem
    assert "stages.adapt.corpus.text" in problem
    assert "stages.adapt.corpus.source: " in read_problems(tmp_path / "none.txt")[0]
    assert "stages.adapt.corpus.source: 'ftp://x/y'" in read_problems("ftp://x/y")[0]


class TestStreaming:
    def test_reads_sources_of_a_list_in_turn(self, tmp_path):
        for name, count in {"a": 100, "b": 100, "c": 5}.items():
            write_jsonl(tmp_path / f"{name}.jsonl", [f"{name} {number}" for number in range(count)])
        sources = [tmp_path / f"{name}.jsonl" for name in "abc"]
        sampled = passages(sources, streaming=Streaming(limit=45, shuffle_buffer=1))
        assert Counter(text[0] for text in sampled) == {"a": 20, "b": 20, "c": 5}
        assert [file["name"] for file in sampled.provenance] == ["a.jsonl", "b.jsonl", "c.jsonl"]
        all_passages = passages(sources, streaming=Streaming(limit=1_000, shuffle_buffer=7))
        assert sorted(all_passages) == sorted(passages(sources))

    def test_reads_limited_passages_in_an_order_that_depends_on_the_seed(self, tmp_path):
        for number in range(4):
            write_jsonl(tmp_path / f"{number}.jsonl", numbered_texts(100)[number * 25 : number * 25 + 25])
        streaming = Streaming(limit=40, shuffle_buffer=10)
        texts = list(passages(tmp_path, streaming=streaming))
        assert len(texts) == len(set(texts)) == 40
        assert set(texts) < set(numbered_texts(100))
        assert texts == list(passages(tmp_path, streaming=streaming))
        assert texts != list(passages(tmp_path, streaming=streaming, seed=1))
        assert texts != sorted(texts)

    def test_downloads_only_the_files_that_are_read(self, tmp_path):
        opened = []

        def fetch(address: str, field: str) -> Any:
            paths = [write_jsonl(tmp_path / f"{number}.jsonl", numbered_texts(50)) for number in range(20)]
            return [(path.name, RecordOpened(path)) for path in paths]

        class RecordOpened(nullcontext[Path]):
            def __enter__(self) -> Path:
                opened.append(self.enter_result)
                return self.enter_result

        settings = CorpusSource(source="s3://b/c", streaming=Streaming(limit=60, shuffle_buffer=20))
        texts = Passages(settings, fetch=fetch)
        assert len(list(texts)) == 60
        assert len(opened) == 2
        assert [file["name"] for file in texts.provenance] == [path.name for path in opened]
        assert sorted(path.name for path in opened) != ["0.jsonl", "1.jsonl"]

    def test_source_smaller_than_the_limit_is_read_completely(self, tmp_path):
        path = write_jsonl(tmp_path / "a.jsonl", numbered_texts(7))
        assert sorted(passages(path, streaming=Streaming(limit=100, shuffle_buffer=3))) == numbered_texts(7)

    def test_buffer_of_source_size_shuffles_uniformly(self):
        positions: Counter[int] = Counter()
        for seed in range(600):
            shuffled = list(shuffle(numbered_texts(6), 6, np.random.default_rng(seed)))
            positions[shuffled.index("passage 0")] += 1
        assert all(60 < positions[position] < 140 for position in range(6))  # 100 each, within four standard errors

    def test_shuffle_moves_a_passage_forward_by_at_most_the_buffer_size(self):
        numbers = [int(text.split()[1]) for text in shuffle(numbered_texts(500), 20, np.random.default_rng(1))]
        assert sorted(numbers) == list(range(500))
        assert all(number < place + 20 for place, number in enumerate(numbers))


def parquet(some: list[Any], column: str = "text") -> bytes:
    buffer = io.BytesIO()
    Dataset.from_dict({column: some, "unused": [0] * len(some)}).to_parquet(buffer)
    return buffer.getvalue()


class TestHub:
    """The fake hub has one data set, `me/pairs`."""

    def test_reads_the_training_split_of_the_current_commit_of_main(self, hub):
        hub.add("main", "a" * 40, {"train.parquet": parquet(["one", None]), "test.parquet": parquet(["no"])})
        texts = passages("me/pairs")
        assert list(texts) == ["one", ""]
        assert texts.provenance == [{"hub_id": "me/pairs", "revision": "main", "commit": "a" * 40, "config": None}]
        assert list(passages("me/pairs", split="test")) == ["no"]
        (problem,) = read_problems("me/pairs", split="dev")
        assert mentions(problem, "stages.adapt.corpus.split: ", "'me/pairs'", "'dev'")
        assert mentions(problem, "set stages.adapt.corpus.split", "train, test")
        assert "'body' (stages.adapt.corpus.text)" in read_problems("me/pairs", text="body")[0]

    def test_streams_limited_passages(self, hub, monkeypatch):
        monkeypatch.setattr(
            "datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0
        )  # for prefetched reads that are discarded
        files = {
            f"data/train-0000{n}-of-00002.parquet": parquet(numbered_texts(60)[n * 30 : n * 30 + 30]) for n in range(2)
        }
        hub.add("main", "a" * 40, files)
        streaming = Streaming(limit=20, shuffle_buffer=8)
        sampled = passages("me/pairs", streaming=streaming)
        taken = list(sampled)
        assert len(set(taken)) == 20
        assert set(taken) < set(numbered_texts(60))
        assert taken == list(passages("me/pairs", streaming=streaming))
        assert taken != list(passages("me/pairs", streaming=streaming, seed=3))
        assert sampled.provenance[0]["commit"] == "a" * 40
        assert "'body' (stages.adapt.corpus.text)" in read_problems("me/pairs", text="body", streaming=streaming)[0]
        assert "stages.adapt.corpus.split" in read_problems("me/pairs", split="dev", streaming=streaming)[0]

    def test_unreachable_hub_may_be_retried(self, hub):
        hub.add("main", "a" * 40, {"train.parquet": parquet(["one"])})
        hub.failing = True
        with pytest.raises(FtjobsError, match=r"^stages\.adapt\.corpus\.source: 'me/pairs'.*unreachable") as caught:
            list(passages("me/pairs"))
        assert type(caught.value) is FtjobsError
