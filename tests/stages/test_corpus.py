"""Separate corpora: the published corpus, and encoders adapted to it, from the job file to the report."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.decontamination import EvaluationTexts
from ftjobs.data.corpora.near_duplicates import hash_words
from ftjobs.data.examples.documents import split_sentences
from ftjobs.errors import UserError
from ftjobs.execution import runner
from ftjobs.execution.checkpointing import StorageCheckpointer
from ftjobs.execution.status import estimate_work, stage_statuses
from ftjobs.jobfile.fields import CorpusSource
from ftjobs.jobfile.read import read
from ftjobs.plan import CorpusStage, plan, select
from ftjobs.stages import corpus as stage
from ftjobs.storage import open_storage
from tests.fakes.s3_server import BUCKET, S3Server
from tests.helpers.families import WORDS
from tests.helpers.pipelines import files_of, job_fields, run_job, write_rows

PASSAGES = {"source": "passages.jsonl"}
STAGES = {
    "packed": {"kind": "adapt", "corpus": {**PASSAGES, "isolate": True}, "max_length": 24},
    "whole": {"kind": "adapt", "corpus": {**PASSAGES, "unit": "document"}, "encoder": "packed", "epochs": 1},
    "by-sentence": {"kind": "adapt", "corpus": {**PASSAGES, "unit": "sentence"}, "epochs": 1},
    "task": {"kind": "adapt", "epochs": 1},
    "head": {"kind": "classify", "encoder": "whole", "freeze_encoder": True, "epochs": 1},
}


def write_passages(folder: Path) -> list[str]:
    """Write passages that contain questions of the job's rows, and passages that are dropped."""
    generator = random.Random(8)

    def some(size: int) -> str:
        return f"{' '.join(generator.choices(WORDS, k=size))} {generator.randrange(10**6)}."

    with (folder / "rows.csv").open(newline="") as file:
        passages = [f"{some(7)} So: {row['question'].upper()}? {some(9)} {some(4)}" for row in csv.DictReader(file)]
    long = " ".join(some(9) for _ in range(8))
    passages += [" ".join(some(9) for _ in range(12)) for _ in range(10)]
    passages += [long, long.upper(), f"{long} And more.", "", " ", "!?"]
    (folder / "passages.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in passages))
    return passages


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    folder = tmp_path_factory.mktemp("corpus")
    write_rows(folder / "rows.csv")
    passages = write_passages(folder)
    fields = job_fields(make_encoder("bert", "pretraining"), stages=STAGES, hypotheses=[])
    storage, manifests = run_job(folder, fields, folder / "store")
    return folder, fields, storage, manifests, passages


def published(storage: Any, manifest: Any) -> tuple[list[str], list[str]]:
    train, held_out = curation.read(storage.root / manifest.folder / "corpus")
    return list(train), list(held_out)


def test_corpus_is_published_once_without_duplicates_and_test_texts(job: Any) -> None:
    _, _, storage, manifests, passages = job
    assert [title for title in manifests if "corpus" in title] == ["packed-corpus"]
    data = prepared.read(storage.root / manifests["prepare"].folder / "data")
    held = EvaluationTexts(text for column in data.splits["test"].columns for text in column)
    train, held_out = published(storage, manifests["packed-corpus"])
    assert (held.find(hash_words(train + held_out)) == -1).all()
    assert (held.find(hash_words(passages)) >= 0).sum() == 18  # one for each test row
    metrics = manifests["packed-corpus"].metrics
    dropped = {name: metrics[name] for name in ("empty", "contaminated", "exact_duplicates", "near_duplicates")}
    assert dropped == {"empty": 3, "contaminated": 18, "exact_duplicates": 1, "near_duplicates": 1}
    assert metrics["read"] == len(passages) == 106
    assert len(train) == metrics["train"] == 106 - 23 - 4
    assert len(held_out) == metrics["held_out"] == 4  # one in twenty of 83
    assert set(train) & set(held_out) == set()
    assert set(train) | set(held_out) <= set(passages)
    record = curation.read_record(storage.root / manifests["packed-corpus"].folder / "corpus")
    assert record["examples"]["contaminated"][0]["holds"] in held.texts
    [near] = record["examples"]["near_duplicates"]
    assert near["passage"] == near["like"]  # as far as they are shown
    assert record["provenance"][0]["name"] == "passages.jsonl"
    ids = pq.read_table(storage.root / manifests["packed-corpus"].folder / "corpus/train.parquet")["id"].to_pylist()
    assert [passages[number] for number in ids] == train


def test_encoders_are_evaluated_on_held_out_passages(job: Any) -> None:
    _, _, storage, manifests, _ = job
    train, _ = published(storage, manifests["packed-corpus"])
    of = {title.split()[0]: manifest.metrics for title, manifest in manifests.items() if manifest.kind == "adapt"}
    assert of["whole"]["texts"] == len(train)
    assert of["by-sentence"]["texts"] == sum(len(split_sentences(text)) for text in train)
    assert of["packed"]["texts"] == len(train)
    assert of["packed"]["truncated"] == 0
    assert of["whole"]["truncated"] > 0
    for name in ("packed", "whole", "by-sentence"):
        assert of[name]["evaluated_on"] == "corpus"
        assert not of[name]["evaluation_texts_also_trained_on"]
        assert of[name]["best"]["loss"] < of[name]["before"]["loss"]
        assert of[name]["best"]["task_loss"] < of[name]["before"]["task_loss"]
    assert of["packed"]["corpus"]["tokens_seen"] == 2 * of["packed"]["tokens"]
    assert "corpus" not in of["task"]
    # The same encoder on the same texts with the same masks: what one calls the task's texts is all of the other.
    assert of["by-sentence"]["before"]["task_loss"] == of["task"]["before"]["loss"]


def test_best_epoch_is_selected_on_the_corpus(job: Any) -> None:
    _, _, storage, manifests, _ = job
    epochs = json.loads(files_of(storage, manifests["packed seed 1"])["metrics.json"])["epochs"]
    assert manifests["packed seed 1"].metrics["best_epoch"] == 1 + min(range(2), key=lambda at: epochs[at]["loss"])
    lines = [json.loads(line) for line in files_of(storage, manifests["packed seed 1"])["metrics.jsonl"].splitlines()]
    assert {"mlm/loss", "mlm/task_loss"} <= lines[0].keys()


def test_cards_and_report_show_counts_of_the_corpus(job: Any) -> None:
    _, _, storage, manifests, _ = job
    card = files_of(storage, manifests["packed seed 1"])["model/README.md"].decode()
    tokens = manifests["packed seed 1"].metrics["tokens"]
    for phrase in (
        "adapted to the passages of `passages.jsonl` by",
        "| contain a test or validation text | 18 |",
        f"without attention between passages. Training used {2 * tokens:,} tokens, {tokens:,} per epoch.",
        "| on held-out passages of its corpus | before |",
        "| perplexity on the task's texts |",
        "ftjobs stage job.yaml packed-corpus`",
        "type: passages.jsonl\n      split: held-out",
    ):
        assert phrase in card
    report = files_of(storage, manifests["report"])["report.md"].decode()
    content = json.loads(files_of(storage, manifests["report"])["report.json"])
    corpora = {row["stage"]: (row["evaluated_on"], row["corpus"] is not None) for row in content["adaptation"]}
    for name in ("packed", "whole", "by-sentence"):
        assert corpora[name] == ("corpus", True)
    assert ("test", False) in corpora.values()
    assert "packed, isolated" in report
    assert "| `packed-corpus` (corpus) | “passages.jsonl”" in report.replace("  ", "").replace(" |", " |")
    for name in ("packed", "whole", "by-sentence"):
        assert f"--set stages.{name}.corpus.source=PATH" in report
    assert "corpus may hold test texts" not in [caveat["kind"] for caveat in content["caveats"]]


def test_corpus_without_decontamination_is_a_caveat(job: Any, tmp_path: Path) -> None:
    folder, fields, _, _, _ = job
    for name in ("rows.csv", "passages.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    corpus = {**PASSAGES, "decontaminate": False, "unit": "document", "near_duplicates": "keep"}
    stages = {"adapt": {"kind": "adapt", "corpus": corpus, "epochs": 1}, "plain": {"kind": "adapt", "epochs": 1}}
    storage, manifests = run_job(tmp_path, {**fields, "stages": stages}, tmp_path / "store")
    assert manifests["adapt-corpus"].metrics["train"] + manifests["adapt-corpus"].metrics["held_out"] == 102
    assert "test_texts" in manifests["adapt-corpus"].metrics
    report = json.loads(files_of(storage, manifests["report"])["report.json"])
    (caveat,) = [caveat for caveat in report["caveats"] if caveat["kind"] == "corpus may hold test texts"]
    assert caveat["figures"] == {"stages": ["adapt"]}
    card = files_of(storage, manifests["adapt seed 1"])["model/README.md"].decode()
    assert "corpus may contain" in card
    assert "| not checked |" in card
    # Without labels, the encoder to ship is chosen on the task's texts, which are all that both were measured on.
    shipped = manifests["report"].metrics["to_ship"]["stage"]
    losses = {
        name: manifests[f"{name} seed 1"]
        .metrics["best"]
        .get("task_loss", manifests[f"{name} seed 1"].metrics["best"]["loss"])
        for name in stages
    }
    assert shipped == min(losses, key=lambda name: losses[name])


@pytest.mark.parametrize(
    ("family", "objective", "unit"),
    [("bert", "mlm+nsp", "pairs"), ("electra", "replaced-token", "packed")],
)
def test_other_objectives_train_on_a_corpus(
    job: Any, tmp_path: Path, make_encoder: Callable[..., Path], family: str, objective: str, unit: str
) -> None:
    folder = job[0]
    for name in ("rows.csv", "passages.jsonl"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    fields = job_fields(make_encoder(family, "pretraining"), hypotheses=[])
    corpus = {**PASSAGES, "isolate": unit == "packed"}
    stage = {"kind": "adapt", "objective": objective, "corpus": corpus, "epochs": 1, "max_length": 40}
    storage, manifests = run_job(tmp_path, {**fields, "stages": {"adapt": stage}}, tmp_path / "store")
    metrics = manifests["adapt seed 1"].metrics
    assert (metrics["texts"], metrics["corpus"]["unit"], metrics["evaluated_on"]) == (79, unit, "corpus")
    assert metrics["best"]["objective_loss"] < metrics["before"]["objective_loss"]
    assert ("task_loss" in metrics["before"]) is (objective == "replaced-token")  # single sentences have no next one
    report = json.loads(files_of(storage, manifests["report"])["report.json"])
    assert [row["evaluated_on"] for row in report["adaptation"]] == ["corpus"]


def test_job_file_of_a_card_gives_the_same_identities(job: Any, tmp_path: Path) -> None:
    folder, _, storage, manifests, _ = job
    card = files_of(storage, manifests["whole seed 1"])["model/README.md"].decode()
    recipe = card.rpartition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "job.yaml").write_text(recipe)
    (tmp_path / "rows.csv").write_bytes((folder / "rows.csv").read_bytes())
    (tmp_path / "packed-corpus").mkdir()
    (tmp_path / "packed-corpus/passages.jsonl").write_bytes((folder / "passages.jsonl").read_bytes())
    model = json.loads(json.dumps(job[1]))["encoder"]["model"]
    (tmp_path / Path(model).name).symlink_to(model)
    identities = {run.title: run.identity for run in plan(read(tmp_path / "job.yaml"))}
    for title in ("prepare", "packed-corpus", "packed seed 1", "whole seed 1"):
        assert identities[title] == manifests[title].identity


def test_plan_and_status_describe_the_corpus(job: Any) -> None:
    folder, _, storage, manifests, _ = job
    runs = plan(read(folder / "job.yaml"))
    packed = select(runs, "packed")
    assert estimate_work(packed, None) == "2 epochs"
    assert estimate_work(packed, manifests["packed-corpus"]) == "2 epochs of 79 passages"
    status = next(status for status in stage_statuses(runs, storage) if status.stage == "packed-corpus")
    assert (status.seed, status.result) == (None, "79 passages, 4 held out, 23 dropped")


def test_resuming_with_packing_gives_the_same_bytes(job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, fields, storage, manifests, _ = job
    (tmp_path / "rows.csv").write_bytes((folder / "rows.csv").read_bytes())
    (tmp_path / "passages.jsonl").write_bytes((folder / "passages.jsonl").read_bytes())
    stages = {"packed": {**STAGES["packed"], "save_every": 1}}
    (tmp_path / "job.yaml").write_text(json.dumps({**fields, "stages": stages}))
    runs = plan(read(tmp_path / "job.yaml"))
    again = open_storage(str(tmp_path / "store"))
    runner.run_all(runs[:2], again)
    run, store = select(runs, "packed"), StorageCheckpointer._store_state
    lines = [json.loads(line) for line in files_of(storage, manifests["packed seed 1"])["metrics.jsonl"].splitlines()]
    steps = next(line["step"] for line in lines if line.get("epoch") == 1)
    assert steps > 10  # more examples than passages / 8, because passages go on in the next

    def dies_in_the_second_epoch(self: StorageCheckpointer, write: Callable, step: int, total: int) -> None:
        store(self, write, step, total)
        if step == steps + 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(StorageCheckpointer, "_store_state", dies_in_the_second_epoch)
        with pytest.raises(KeyboardInterrupt):
            runner.run_stage(run, again)
    manifest = runner.run_stage(run, again)
    uninterrupted, resumed = files_of(storage, manifests["packed seed 1"]), files_of(again, manifest)  # type: ignore[arg-type]
    assert uninterrupted["model/model.safetensors"] == resumed["model/model.safetensors"]
    assert uninterrupted["metrics.json"] == resumed["metrics.json"]


def test_corpus_in_a_bucket_is_downloaded_file_by_file(s3: S3Server, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    passages = write_passages(tmp_path)[-18:-8]
    prefix = f"corpus/{tmp_path.name}"
    for number in range(3):
        (tmp_path / "part.txt").write_text("\n".join(passages[number * 3 : number * 3 + 3]))
        s3.client().upload_file(str(tmp_path / "part.txt"), BUCKET, f"{prefix}/part-{number}.txt")
    s3.client().upload_file(str(tmp_path / "part.txt"), BUCKET, f"{prefix}/.hidden.txt")
    s3.client().upload_file(str(tmp_path / "part.txt"), BUCKET, f"{prefix}/notes")
    fields = job_fields(None, hypotheses=[])
    corpus = {"source": f"s3://{BUCKET}/{prefix}", "decontaminate": False, "held_out": 2}
    fields["stages"] = {
        name: {"kind": "adapt", "corpus": corpus | more}
        for name, more in {
            "all": {},
            "one": {"source": f"{corpus['source']}/part-1.txt"},
            "pattern": {"source": f"{corpus['source']}/part-[01]*"},
            "some": {"streaming": {"limit": 4}, "seed": 1},
            "none": {"source": f"{corpus['source']}/absent"},
        }.items()
    }
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    runs, storage = plan(read(tmp_path / "job.yaml")), open_storage(str(tmp_path / "store"))
    corpora = {
        name: runner.run_stage(select(runs, f"{name}-corpus"), storage) for name in fields["stages"] if name != "none"
    }
    texts = {name: sorted(chain(*published(storage, manifest))) for name, manifest in corpora.items()}
    assert texts["all"] == sorted(passages[:9])
    assert texts["one"] == sorted(passages[3:6])
    assert texts["pattern"] == sorted(passages[:6])
    assert len(texts["some"]) == 4
    assert set(texts["some"]) < set(passages)
    with pytest.raises(UserError, match=r"stages\.none\.corpus\.source: no data .*s3://"):
        runner.run_stage(select(runs, "none-corpus"), storage)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            {"held_out": 5},
            r"3 of 6 passages .*1 empty, .* 2 exact .*stages\.a\.corpus\.held_out takes 5",
        ),
        ({"held_out": 0.99}, r"stages\.a\.corpus\.held_out takes 3 of them"),
        ({"text_files": "file"}, r"stages\.a\.corpus\.source: 1 of 1 passages"),
    ],
)
def test_too_few_remaining_passages_raise(tmp_path: Path, settings: dict[str, Any], problem: str) -> None:
    (tmp_path / "a.txt").write_text("one two\nONE two\nthree\nfour five\n?!\nthree\n")
    source = CorpusSource(source=str(tmp_path / "a.txt"), decontaminate=False, **settings)
    with pytest.raises(UserError, match=problem):
        stage.run(CorpusStage(stage="a", corpus=source), 0, {}, tmp_path)


def test_held_out_passages_depend_on_seed_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"passage number {number}\n" for number in range(40)))

    def held_out(name: str, **settings: Any) -> list[str]:
        source = CorpusSource(source=str(tmp_path / "a.txt"), decontaminate=False, **settings)
        stage.run(CorpusStage(stage="a", corpus=source), 0, {}, tmp_path / name)
        return list(curation.read(tmp_path / name / "corpus")[1])

    assert len(held_out("a")) == 2
    assert len(held_out("b", held_out=7)) == 7
    assert len(held_out("c", held_out=0.25)) == 10
    assert held_out("d", held_out=7) == held_out("b2", held_out=7)
    assert held_out("e", held_out=7, seed=1) != held_out("d2", held_out=7)
