"""Resumed training gives the same bytes as uninterrupted training."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.data.examples.batching import LabeledExamples
from ftjobs.errors import TryLater
from ftjobs.execution import checkpointing, runner
from ftjobs.execution.checkpointing import StorageCheckpointer
from ftjobs.jobfile.fields import Classify, Lora
from ftjobs.jobfile.read import read
from ftjobs.models import heads
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from ftjobs.system import signals
from ftjobs.training import features, layerwise, lora, stepping
from ftjobs.training.callbacks import TrainingContext
from ftjobs.training.loop import train
from ftjobs.training.output import metrics_jsonl
from ftjobs.training.state import Snapshot, TrainerState
from ftjobs.training.stepping import ProcessGroup
from tests.fakes.s3_server import BUCKET
from tests.helpers.checkpointers import FolderCheckpointer, Killed, LateCheckpointer
from tests.helpers.pipelines import files_of, job_fields, write_rows
from tests.helpers.training import SEED, StepRecorder, ToyObjective, random_tokens


def train_classifier(
    folder: Path, checkpointer: FolderCheckpointer | None, resumed_at: int = 0, **fields: Any
) -> tuple[dict[str, bytes], Any, list]:
    """Train four epochs of seven steps with dropout. Returns weights, metrics, and the losses of the steps."""
    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    tokens = random_tokens(52, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.random.default_rng(1).integers(0, 2, size=len(tokens)), pad_token_id=0)
    accuracies = {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.9}
    recorder = StepRecorder()
    settings = Classify(**{"epochs": 4, "learning_rate": 1e-3, "warmup_steps": 5, **fields})
    layers = layerwise.prepare(model, settings)

    def evaluate() -> dict[str, float]:
        last_step = recorder.numbers[-1] if recorder.numbers else resumed_at
        return {"accuracy": accuracies[last_step // 7]}

    head = [name for name, _ in model.named_parameters() if not heads.is_encoder(model, name)]
    with lora.adapters(model, settings.lora, head):
        trained = train(
            model,
            examples,
            settings,
            ToyObjective(evaluate=evaluate, score=lambda metrics: metrics["accuracy"]),
            seed=SEED,
            context=TrainingContext(checkpointer, callbacks=(recorder,)),
            layerwise=layers,
        )
    weights = {name: value.numpy().tobytes() for name, value in model.state_dict().items()}
    log = metrics_jsonl(trained.steps, trained.epochs, trained.steps_per_epoch)
    return weights, (trained.epochs, trained.best_epoch, log), list(zip(recorder.numbers, recorder.losses, strict=True))


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("kill_at", [1, 6, 7, 8, 13, 14, 20, 27])
def test_resuming_after_any_step_gives_the_same_bytes(
    make_encoder: Callable[..., Path], tmp_path: Path, kill_at: int, precision: str
) -> None:
    """Including the ends of epochs (7, 14), after the best epoch (20), and right before the end (27); with dropout."""
    encoder = make_encoder("bert")
    uninterrupted = train_classifier(encoder, None, mixed_precision=precision)
    with pytest.raises(Killed):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 1, kill_at), mixed_precision=precision)
    torch.manual_seed(99)
    np.random.seed(99)
    resumed = train_classifier(encoder, FolderCheckpointer(tmp_path, 100), kill_at, mixed_precision=precision)
    assert resumed[0] == uninterrupted[0]
    assert resumed[1] == uninterrupted[1]
    assert resumed[2] == uninterrupted[2][kill_at:]  # no step is repeated


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_resuming_with_lora_gives_the_same_bytes_and_state_has_adapters_only(
    make_encoder: Callable[..., Path], tmp_path: Path, precision: str
) -> None:
    fields = {"lora": Lora(rank=2, dropout=0.2), "mixed_precision": precision}
    encoder = make_encoder("bert")
    uninterrupted = train_classifier(encoder, None, **fields)
    with pytest.raises(Killed):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 1, 16), **fields)
    state = Snapshot.read(tmp_path / "000016")
    for part in ("model", "best"):
        assert state.part(part)
        assert all("lora_" in name or name.startswith("classifier.") for name in state.part(part))
    resumed = train_classifier(encoder, FolderCheckpointer(tmp_path, 100), 16, **fields)
    assert resumed[:2] == uninterrupted[:2]
    assert resumed[2] == uninterrupted[2][16:]


@pytest.mark.parametrize("kill_at", [10, 14, 20, 21])
def test_resuming_stops_early_after_the_same_epoch(
    make_encoder: Callable[..., Path], tmp_path: Path, kill_at: int
) -> None:
    """After the best epoch (14), and before (20) and after (21) the last step of the final epoch."""
    encoder = make_encoder("bert")
    uninterrupted = train_classifier(encoder, None, early_stopping=1)
    assert [record["accuracy"] for record in uninterrupted[1][0]] == [0.5, 0.9, 0.7]
    with pytest.raises(Killed):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 1, kill_at), early_stopping=1)
    resumed = train_classifier(encoder, FolderCheckpointer(tmp_path, 100), kill_at, early_stopping=1)
    assert resumed[:2] == uninterrupted[:2]
    assert resumed[2] == uninterrupted[2][kill_at:]


@pytest.mark.parametrize("kill_at", [7, 9, 20])
def test_resuming_gradual_unfreezing_gives_the_same_bytes(
    make_encoder: Callable[..., Path], tmp_path: Path, kill_at: int
) -> None:
    """When a layer is unfrozen (7), soon after (9), and before the embeddings are unfrozen (20)."""
    fields = {"unfreeze": "gradual", "layer_decay": 0.8, "weight_decay": 0.1, "reinitialise_layers": 1}
    encoder = make_encoder("bert")
    uninterrupted = train_classifier(encoder, None, **fields)
    with pytest.raises(Killed):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 1, kill_at), **fields)
    resumed = train_classifier(encoder, FolderCheckpointer(tmp_path, 100), kill_at, **fields)
    assert resumed[:2] == uninterrupted[:2]
    assert resumed[2] == uninterrupted[2][kill_at:]


@pytest.mark.parametrize("stopped_at", [10, 14])
def test_stop_after_a_logged_step_neither_loses_nor_repeats_it(
    make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_at: int
) -> None:
    """SIGTERM arrives within an optimizer step and takes effect at its end, before callbacks run."""
    encoder = make_encoder("bert")
    uninterrupted = train_classifier(encoder, None)
    step = stepping.Stepper.step

    def stopped(self: Any, *arguments: Any) -> Any:
        steps.append(1)
        if len(steps) == stopped_at:
            signals._handle(signal.SIGTERM, None)
        return step(self, *arguments)

    steps: list[int] = []
    with monkeypatch.context() as patched, pytest.raises(signals.Stopped):
        patched.setattr(signals._Request, "pending", False)
        patched.setattr(stepping.Stepper, "step", stopped)
        train_classifier(encoder, FolderCheckpointer(tmp_path, 100))
    resumed = train_classifier(encoder, FolderCheckpointer(tmp_path, 100), stopped_at)
    assert resumed[:2] == uninterrupted[:2]


def test_state_written_late_is_that_of_its_step(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Training continues meanwhile with the tensors that are saved."""
    encoder = make_encoder("bert")
    folders = [tmp_path / "at-once", tmp_path / "late"]
    for folder in folders:
        folder.mkdir()
    train_classifier(encoder, FolderCheckpointer(folders[0], 9))
    late = LateCheckpointer(folders[1], 9)
    train_classifier(encoder, late)
    assert list(late.writes) == [9, 18, 27]
    for step, write in late.writes.items():
        states = [folder / f"{step:06d}" for folder in folders]
        states[1].mkdir()
        write(states[1])
        tensors = [(state / "state.safetensors").read_bytes() for state in states]
        assert tensors[0] == tensors[1]
        values = [json.loads((state / "state.json").read_text()) for state in states]
        for value in values:
            assert value["position"].pop("seconds") > 0
        assert values[0] == values[1]


@pytest.mark.parametrize("first_node", [0, 9])
def test_node_with_another_state_than_the_first_does_not_resume(
    make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_node: int
) -> None:
    """Its weights would differ: processes exchange gradients, but not weights and moments."""
    encoder = make_encoder("bert")
    with pytest.raises(Killed):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 1, 8))
    monkeypatch.setattr(ProcessGroup, "broadcast_from_main", lambda self, value: TrainerState(step=first_node))
    message = f"after step 8, .* after step {first_node};"
    with pytest.raises(TryLater, match=message):
        train_classifier(encoder, FolderCheckpointer(tmp_path, 100))


def test_training_state_has_tensors_and_json_only(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_classifier(make_encoder("bert"), FolderCheckpointer(tmp_path, 3, 3))
    assert {path.name for path in (tmp_path / "000003").iterdir()} == {"state.safetensors", "state.json"}


# ---------------------------------------------------------------- through storage


@pytest.fixture
def job(make_encoder: Callable[..., Path], tmp_path: Path) -> Path:
    """A job whose stages save training state after every step."""
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    for kind in ("adapt", "classify"):
        fields["defaults"][kind] = {**fields["defaults"][kind], "save_every": 1}
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    return tmp_path / "job.yaml"


def test_save_every_does_not_change_the_identity(job: Path) -> None:
    identities = [
        [run.identity for run in plan(read(job, [f"defaults.classify.save_every={every}"]))] for every in (7, "90s")
    ]
    assert identities[0] == identities[1]


def test_stage_resumes_from_storage_and_removes_its_state(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs = plan(read(job))
    uninterrupted = open_storage(str(tmp_path / "whole"))
    runner.run_all(runs, uninterrupted)
    storage = open_storage(str(tmp_path / "killed"))
    runner.run_stage(runs[0], storage)
    store = StorageCheckpointer._store_state

    def dies_at_step_9(self: StorageCheckpointer, write: Callable, step: int, total: int) -> None:
        store(self, write, step, total)
        if step == 9:
            raise Killed

    logging.getLogger("ftjobs").propagate = True
    for title in ("adapt", "behavioural", "head"):
        run = select(runs, title)
        with monkeypatch.context() as broken, pytest.raises(Killed):
            broken.setattr(StorageCheckpointer, "_store_state", dies_at_step_9)
            runner.run_stage(run, storage)
        states = {key.split("/state/")[1].split("/")[0] for key, *_ in storage.list(f"{run.key}/state")}
        assert [name.split("-")[0] for name in states] == ["000000000009"]  # older states are removed
        with caplog.at_level(logging.INFO, logger="ftjobs"):
            manifest = runner.run_stage(run, storage)
        assert "after step 9 of" in caplog.text
        caplog.clear()
        assert not list(storage.list(f"{run.key}/state"))
        expected = files_of(uninterrupted, runner.artifacts.require_manifest(uninterrupted, run))
        resumed = files_of(storage, manifest)
        assert {name for name in expected if resumed[name] != expected[name]} == {"timing.json"}
        lines = [json.loads(line) for line in resumed["metrics.jsonl"].splitlines()]
        assert [line["step"] for line in lines if "train/loss" in line] == list(range(10, lines[-1]["step"] + 1, 10))


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_expensive_features_are_stored_once_and_downloaded_by_the_next_attempt(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, request: pytest.FixtureRequest
) -> None:
    if kind == "s3":
        request.getfixturevalue("s3")
    storage = open_storage(f"s3://{BUCKET}/{tmp_path.name}" if kind == "s3" else str(tmp_path / "killed"))
    runs, uninterrupted = plan(read(job)), open_storage(str(tmp_path / "whole"))
    run = select(runs, "head")
    runner.run_stage(runs[0], uninterrupted)
    expected = files_of(uninterrupted, runner.run_stage(run, uninterrupted))
    runner.run_stage(runs[0], storage)
    store, compute = StorageCheckpointer._store_state, features.compute

    def dies_at_step_9(self: StorageCheckpointer, write: Callable, step: int, total: int) -> None:
        store(self, write, step, total)
        if step == 9:
            raise Killed

    def stored() -> list[str]:
        return [entry.key for entry in storage.list(f"{run.key}/state/features")]

    with monkeypatch.context() as cheap, pytest.raises(Killed):
        cheap.setattr(StorageCheckpointer, "_store_state", dies_at_step_9)
        runner.run_stage(run, storage)
    assert stored() == []
    monkeypatch.setattr(features, "_LATENCY", -1.0)  # computing features takes longer than downloading them
    with monkeypatch.context() as dear, pytest.raises(Killed):
        dear.setattr(
            StorageCheckpointer, "_store_state", lambda self, write, step, total: dies_at_step_9(self, write, 9, total)
        )
        runner.run_stage(run, storage)
    (key,) = stored()

    computed: list[str] = []

    def noted(model: Any, examples: Any, title: str, mixed_precision: str = "no") -> Any:
        computed.append(title)
        return compute(model, examples, title, mixed_precision)

    monkeypatch.setattr(features, "compute", noted)
    (tmp_path / "broken").write_bytes(storage.read(key)[:-1] + b"?")
    storage.put(tmp_path / "broken", key)
    with monkeypatch.context() as broken, pytest.raises(Killed):
        broken.setattr(
            StorageCheckpointer, "_store_state", lambda self, write, step, total: dies_at_step_9(self, write, 9, total)
        )
        runner.run_stage(run, storage)
    assert [title for title in computed if title != "features"] == ["features of train", "features of test"]
    assert stored() == [key]  # repaired
    computed.clear()
    manifest = runner.run_stage(run, storage)
    assert set(computed) == {"features"}  # a few examples, to test whether the head supports features
    assert storage.read(f"{manifest.folder}/model/model.safetensors") == expected["model/model.safetensors"]
    assert not list(storage.list(f"{run.key}/state"))


def test_broken_states_are_skipped(job: Path, tmp_path: Path) -> None:
    run = select(plan(read(job)), "behavioural")
    storage = open_storage(str(tmp_path / "store"))

    def checkpointer() -> StorageCheckpointer:
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        return StorageCheckpointer(storage, run, 1, work)

    def write(text: str) -> Callable[[Path], None]:
        return lambda folder: (folder / "state.json").write_text(text) and None

    first = checkpointer()
    first.save(write("one"), 1, 9, wait=True)
    kept = tmp_path / "kept"
    shutil.copytree(tmp_path / "store" / run.key / "state", kept)
    first.save(write("two"), 2, 9, wait=True)
    shutil.copytree(kept, tmp_path / "store" / run.key / "state", dirs_exist_ok=True)
    state = checkpointer().latest()
    assert state is not None
    assert (state / "state.json").read_text() == "two"
    newest = max((tmp_path / "store" / run.key / "state").iterdir())
    for spoil in (
        lambda: (newest / "state.json").write_text("tw0"),
        lambda: (newest / "state.json").unlink(),
        lambda: (newest / "whole.json").write_text("{"),
        lambda: (newest / "whole.json").unlink(),
    ):
        spoil()
        state = checkpointer().latest()
        assert state is not None
        assert (state / "state.json").read_text() == "one"
    shutil.rmtree(tmp_path / "store" / run.key / "state")
    assert checkpointer().latest() is None


def test_saves_run_one_at_a_time_in_background_and_replace_the_previous_state_when_complete(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, storage = select(plan(read(job)), "behavioural"), open_storage(str(tmp_path / "store"))
    checkpointer, reader = (
        StorageCheckpointer(storage, run, 1, tmp_path),
        StorageCheckpointer(storage, run, 1, tmp_path),
    )
    answers, put = threading.Event(), storage.put

    def slow(*arguments: Any) -> str:
        assert answers.wait(20)
        return put(*arguments)

    def save(step: int) -> None:
        checkpointer.save(lambda folder: (folder / "state.json").write_text(str(step)) and None, step, 9, wait=False)

    monkeypatch.setattr(storage, "put", slow)
    save(1)  # returns although storage does not answer yet
    second = threading.Thread(target=save, args=(2,))
    second.start()
    second.join(0.3)
    assert second.is_alive()
    assert reader.latest() is None
    answers.set()
    second.join(20)
    checkpointer.save(lambda folder: None, 2, 9, wait=True)
    answers.clear()
    save(3)
    state = reader.latest()
    assert state is not None
    assert (state / "state.json").read_text() == "2"
    answers.set()
    checkpointer.close()
    state = reader.latest()
    assert state is not None
    assert (state / "state.json").read_text() == "3"
    assert [key.split("/state/")[1].split("-")[0] for key, *_ in storage.list(f"{run.key}/state")] == [f"{3:012d}"] * 2


def test_failed_save_does_not_stop_training(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(StorageCheckpointer, "_store_state", fails)
    runs = plan(read(job))
    storage = open_storage(str(tmp_path / "store"))
    logging.getLogger("ftjobs").propagate = True
    with caplog.at_level(logging.WARNING, logger="ftjobs"):
        runner.run_stage(runs[0], storage)
        runner.run_stage(select(runs, "behavioural"), storage)
    assert "not saved: no space" in caplog.text


def test_should_save_by_time_or_steps(job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = select(plan(read(job)), "behavioural")
    storage = open_storage(str(tmp_path / "store"))
    now = [1000.0]
    monkeypatch.setattr(checkpointing.time, "monotonic", lambda: now[0])
    by_steps, by_time = (
        StorageCheckpointer(storage, run, 10, tmp_path),
        StorageCheckpointer(storage, run, "2m", tmp_path),
    )
    assert [step for step in range(1, 31) if by_steps.should_save(step, 30)] == [10, 20]
    assert not by_time.should_save(1, 30)
    now[0] += 119.0
    assert not by_time.should_save(2, 30)
    now[0] += 1.0
    assert by_time.should_save(3, 30)
    assert not by_time.should_save(30, 30)


def test_superseded_attempt_returns_the_published_manifest(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = plan(read(job))
    storage, other = open_storage(str(tmp_path / "store")), open_storage(str(tmp_path / "other"))
    runner.run_all(runs[:2], other)
    runner.run_stage(runs[0], storage)
    run, store = runs[1], StorageCheckpointer._store_state

    def other_publishes_at_step_5(self: StorageCheckpointer, write: Callable, step: int, total: int) -> None:
        store(self, write, step, total)
        if step == 5:
            shutil.copytree(tmp_path / "other" / run.key, tmp_path / "store" / run.key, dirs_exist_ok=True)

    monkeypatch.setattr(StorageCheckpointer, "_store_state", other_publishes_at_step_5)
    manifest = runner.run_stage(run, storage)
    assert manifest == runner.artifacts.require_manifest(other, run)
    left = {stored[0].removeprefix(f"{run.key}/").split("/")[0] for stored in storage.list(run.key)}
    assert left == {"attempts", "manifest.json"}


# ---------------------------------------------------------------- signals

SLOW = ["--set", "defaults.classify.epochs=4000", "--set", "defaults.adapt.epochs=4000"]


def start(job: Path, store: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftjobs", "run", str(job), "--store", str(store), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 143, output
    assert "Traceback" not in output
    assert output.splitlines()[-1] == "stopped by SIGTERM"
    return output


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if condition():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    raise AssertionError("timed out")


def test_sigterm_saves_state_and_next_attempt_resumes(job: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    process = start(job, store, *SLOW, "--set", "defaults.adapt.save_every=1h")
    wait_for(lambda: "adapting on" in (process.stdout.readline() or ""), process)
    time.sleep(1.0)
    stop(process)
    markers = list(store.rglob("state/*/whole.json"))
    assert len(markers) == 1  # one complete state, although no save was due
    step = json.loads(markers[0].read_text())["step"]
    assert step > 0
    process = start(job, store, *SLOW)
    line = ""
    while "resuming" not in line:
        line = process.stdout.readline()
        assert line, "the process ended"
    assert f"resuming after step {step} of" in line
    stop(process)


@pytest.mark.parametrize("delay", [0.15, 0.6, 1.5, 3.0])
def test_sigterm_at_any_time_exits_with_143_and_publishes_nothing_partial(
    job: Path, tmp_path: Path, delay: float
) -> None:
    process = start(job, tmp_path / "store", *SLOW)
    time.sleep(delay)
    stop(process)
    published = list((tmp_path / "store").rglob("manifest.json"))
    assert len(published) <= 1
