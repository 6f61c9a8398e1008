"""Word lists of `vocabulary.add` are equal to words in the job file."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.errors import UserError
from ftjobs.jobfile.read import read
from ftjobs.kubernetes.job_bundle import JobBundle
from ftjobs.plan import plan, select

JOB = """
name: words
encoder: {scratch: {}}
data: {source: me/texts, text: text, split: {test_fraction: 0.2}}
stages: {adapt: {kind: adapt, vocabulary: {add: %s}}}
"""


def identity(job: Path, *overrides: str) -> str:
    return select(plan(read(job, overrides)), "adapt").identity


@pytest.fixture
def job(tmp_path: Path) -> Path:
    (tmp_path / "job").mkdir()
    (tmp_path / "job/words.txt").write_text("\ufeffparacetamol\n\n  Ibuprofen \nparacetamol\n", encoding="utf-8")
    (tmp_path / "job/job.yaml").write_text(JOB % "words.txt")
    return tmp_path / "job/job.yaml"


def test_word_list_equals_inline_words(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(job).stage("adapt").vocabulary.add == ["paracetamol", "Ibuprofen"]
    (tmp_path / "inline.yaml").write_text(JOB % "[paracetamol, Ibuprofen]")
    assert identity(tmp_path / "inline.yaml") == identity(job)
    before = identity(job)
    (job.parent / "words.txt").write_text("paracetamol\n")
    assert identity(job) != before
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("paracetamol\nIbuprofen\n")
    assert identity(job, "stages.adapt.vocabulary.add=mine.txt") == before  # relative to the current directory


def test_word_list_in_defaults(job: Path) -> None:
    job.write_text(
        (JOB % "x").replace("vocabulary: {add: x}", "epochs: 1") + "defaults: {adapt: {vocabulary: {add: words.txt}}}\n"
    )
    assert read(job).stage("adapt").vocabulary.add == ["paracetamol", "Ibuprofen"]


def test_job_bundle_contains_words_instead_of_the_file(job: Path, tmp_path: Path) -> None:
    bundle = JobBundle(read(job))
    assert bundle.archive is None
    (tmp_path / "bundle.yaml").write_text(bundle.full_job_file())
    assert identity(tmp_path / "bundle.yaml") == identity(job)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"stages.adapt.vocabulary.add: 'words.txt' cannot be read \(No such file or directory; looked at "),
        (b"\xff\xfe\x00", "'words.txt' .*UTF-8"),
        (b"\n \n", "words.txt .*no words.*one word per line"),
        (b"one\ntwo words\n", "words.txt, line 2: 'two words' .*one word per line"),
    ],
)
def test_invalid_word_list_is_rejected(job: Path, content: bytes | None, message: str) -> None:
    words = job.parent / "words.txt"
    words.unlink() if content is None else words.write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(job)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        ("0", "vocabulary.add: .*greater than or equal to 1, not 0"),
        ("-3", "greater than or equal to 1"),
        ("1.5", "should be"),
        ("true", "should be"),
        ("[]", "should not be empty"),
        ("['']", "should have at least 1 character"),
        ("[two words]", "'two words' .*without spaces"),
        ("[a1, a1]", "'a1' is repeated"),
        ("s3://bucket/words.txt", "'s3://bucket/words.txt' .*number, words, or a path"),
        ("3, min_count: 0", "min_count: .*greater than or equal to 1"),
        ("3, init: zeros", "init: .*'mean-of-pieces' or 'random'"),
        ("3}, objective: replaced-token, replace: {mask: 0.8", "vocabulary.*objective: replaced-token"),
        ("3}, lora: {rank: 2", "`vocabulary` and `lora` .*embeddings"),
    ],
)
def test_invalid_vocabulary_is_rejected(job: Path, add: str, message: str) -> None:
    job.write_text(JOB % add)
    with pytest.raises(UserError, match=message):
        read(job)
