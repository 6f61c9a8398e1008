"""Words of a file stand in the job as if they had been written there."""

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


def test_words_of_a_file_beside_the_job(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(job).stage("adapt").vocabulary.add == ["paracetamol", "Ibuprofen"]
    (tmp_path / "inline.yaml").write_text(JOB % "[paracetamol, Ibuprofen]")
    assert identity(tmp_path / "inline.yaml") == identity(job)
    before = identity(job)
    (job.parent / "words.txt").write_text("paracetamol\n")
    assert identity(job) != before
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.txt").write_text("paracetamol\nIbuprofen\n")
    assert identity(job, "stages.adapt.vocabulary.add=mine.txt") == before  # relative to where one is


def test_words_of_a_file_in_the_defaults(job: Path) -> None:
    job.write_text(
        (JOB % "x").replace("vocabulary: {add: x}", "epochs: 1") + "defaults: {adapt: {vocabulary: {add: words.txt}}}\n"
    )
    assert read(job).stage("adapt").vocabulary.add == ["paracetamol", "Ibuprofen"]


def test_pods_need_no_file(job: Path, tmp_path: Path) -> None:
    bundle = JobBundle(read(job))
    assert bundle.archive is None
    (tmp_path / "bundle.yaml").write_text(bundle.full_job_file())
    assert identity(tmp_path / "bundle.yaml") == identity(job)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"stages.adapt.vocabulary.add: 'words.txt' cannot be read \(No such file or directory; looked at "),
        (b"\xff\xfe\x00", "'words.txt' cannot be read .it is no UTF-8 text"),
        (b"\n \n", "words.txt holds no words; write one word a line"),
        (b"one\ntwo words\n", "words.txt, line 2: 'two words' is not one word; write one word a line"),
    ],
)
def test_what_is_no_list_of_words(job: Path, content: bytes | None, message: str) -> None:
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
        ("[two words]", "'two words' is not one word; give words without spaces"),
        ("[a1, a1]", "'a1' stands twice"),
        ("s3://bucket/words.txt", "'s3://bucket/words.txt' is no file here; give a number, words, or a path"),
        ("3, min_count: 0", "min_count: .*greater than or equal to 1"),
        ("3, init: zeros", "init: .*'mean-of-pieces' or 'random'"),
        ("3}, objective: replaced-token, replace: {mask: 0.8", "`vocabulary` is not for objective: replaced-token"),
        ("3}, lora: {rank: 2", "`vocabulary` and `lora` do not go together: LoRA leaves embeddings as they are"),
    ],
)
def test_what_cannot_be_added(job: Path, add: str, message: str) -> None:
    job.write_text(JOB % add)
    with pytest.raises(UserError, match=message):
        read(job)
