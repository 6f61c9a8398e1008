"""Training loop: steps independent of passes and processes, resumable order, best epoch, early stopping, memory."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from ftjobs.data.examples.batching import LabeledExamples, accumulation_windows, epoch_order, steps_per_epoch
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Adapt, TrainingFields
from ftjobs.models import heads
from ftjobs.objectives.compute.mlm import MaskedLMObjective
from ftjobs.training.callbacks import Callback, EpochEnd, TrainingContext
from ftjobs.training.loop import train
from ftjobs.training.optimization import build_lr_scheduler, resolve_precision
from tests.helpers.training import (
    NO_DROPOUT,
    PARALLEL_SETTINGS,
    SEED,
    ToyObjective,
    random_tokens,
    settings,
    train_classifier,
)


@pytest.mark.parametrize("loss", [{}, {"class_weights": {"a": 0.1, "b": 3.0}, "label_smoothing": 0.2}])
def test_gradient_accumulation_takes_the_same_steps(make_encoder: Callable[..., Path], loss: dict[str, Any]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    _, single_pass, _ = train_classifier(folder, settings(per_device_batch_size=8, **loss))
    _, accumulated, _ = train_classifier(
        folder, settings(per_device_batch_size=2, gradient_accumulation_steps=4, **loss)
    )
    _, uneven, _ = train_classifier(folder, settings(per_device_batch_size=1, gradient_accumulation_steps=8, **loss))
    np.testing.assert_allclose(accumulated, single_pass, rtol=1e-4)
    np.testing.assert_allclose(uneven, single_pass, rtol=1e-4)


def test_two_processes_take_the_same_steps_as_one(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Compare loss and learning rate of every step; a scheduler prepared by accelerate would advance twice as fast."""
    folder = make_encoder("bert", **NO_DROPOUT)
    alone = [train_classifier(folder, settings(per_device_batch_size=8, **fields))[1] for fields in PARALLEL_SETTINGS]
    out = tmp_path / "steps.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    subprocess.run(
        [*launcher, "-m", "tests.helpers.two_processes", str(folder), str(out)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        cwd=Path(__file__).parent.parent.parent,
    )
    for steps, expected in zip(json.loads(out.read_text()), alone, strict=True):
        np.testing.assert_allclose(steps, expected, rtol=1e-4)


def test_model_has_weights_of_first_best_epoch(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate() -> dict[str, float]:
        seen.append({name: value.clone() for name, value in holder[0].state_dict().items()})
        return {"accuracy": [0.5, 0.9, 0.9][len(seen) - 1]}

    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    holder = [model]
    tokens = random_tokens(20, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.arange(20) % 2, pad_token_id=0)
    trained = train(
        model,
        examples,
        settings(epochs=3),
        ToyObjective(evaluate=evaluate, score=lambda metrics: metrics["accuracy"]),
        seed=SEED,
    )
    assert trained.best_epoch == 2  # the first of two equals
    assert [record["accuracy"] for record in trained.epochs] == [0.5, 0.9, 0.9]
    assert not torch.equal(seen[1]["classifier.weight"], seen[2]["classifier.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_early_stopping_ends_after_patience_without_changing_the_schedule(
    make_encoder: Callable[..., Path],
) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    _, planned, _ = train_classifier(folder, settings(epochs=6))
    for patience, expected in ((1, 2), (2, 5), (9, 6)):
        scores = iter([0.5, 0.5, 0.9, 0.1, 0.9, 0.2])  # a tie does not improve the best epoch
        fields = settings(epochs=6, early_stopping=patience)
        _, steps, trained = train_classifier(folder, fields, score=lambda _, scores=scores: next(scores))
        assert len(trained.epochs) == expected
        assert trained.best_epoch == (1 if patience == 1 else 3)
        assert steps == planned[: 7 * expected]
        assert trained.stopping(fields) == {"epochs_run": expected}


def test_loss_that_is_not_finite_raises(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    with pytest.raises(FtjobsError, match=r"loss is (nan|inf).*learning rate"):
        train_classifier(folder, settings(learning_rate=10.0, max_grad_norm=0.0, weight_decay=10.0, epochs=60))


def test_evaluation_uses_fp32_while_training_uses_bf16(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    evaluation_dtypes: list[torch.dtype] = []
    training_dtypes: list[torch.dtype] = []

    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    layer = model.bert.encoder.layer[0].output.dense
    layer.register_forward_hook(
        lambda _, __, out: (training_dtypes if model.training else evaluation_dtypes).append(out.dtype)
    )
    tokens = random_tokens(16, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.arange(16) % 2, pad_token_id=0)

    def evaluate() -> dict[str, float]:
        model.eval()
        model(**examples.batch(np.arange(4), 0).inputs)
        return {}

    fields = settings(mixed_precision="bf16")
    train(model, examples, fields, ToyObjective(evaluate=evaluate, score=lambda _: 0.0), seed=1)
    assert set(evaluation_dtypes) == {torch.float32}
    assert set(training_dtypes) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_fp16_without_gpu_raises() -> None:
    with pytest.raises(UserError, match=r"mixed_precision: fp16.*`no`"):
        resolve_precision("fp16", torch.device("cpu"))


def random_lengths(examples: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, 100, size=examples)


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_windows_use_every_example_once_and_equal_steps_per_process(examples: int, world: int) -> None:
    order = epoch_order(random_lengths(examples), 5, 2, 3 * 2 * world)
    per_process = [list(accumulation_windows(order, 3, 2, rank, world)) for rank in range(world)]
    steps = {len(steps) for steps in per_process}
    assert steps == {steps_per_epoch(examples, 3 * 2 * world)}
    used = [index for steps in per_process for window in steps for indices in window for index in indices]
    assert sorted(used) == list(range(examples))
    assert all(window for steps in per_process for window in steps)
    assert max(len(indices) for steps in per_process for window in steps for indices in window) <= 3


def test_epoch_order_depends_on_seed_and_epoch_only() -> None:
    lengths = random_lengths(50)
    assert epoch_order(lengths, 1, 1, 4).tolist() == epoch_order(lengths, 1, 1, 4).tolist()
    orders = {tuple(epoch_order(lengths, seed, epoch, 4)) for seed in (1, 2) for epoch in (1, 2)}
    assert len(orders) == 4


def test_lengths_are_similar_within_steps_and_random_across_steps() -> None:
    lengths = random_lengths(4_000)
    steps = lengths[epoch_order(lengths, 1, 1, 8)].reshape(-1, 8)
    padded = steps.max(axis=1).sum() * 8 / lengths.sum()
    assert padded < 1.03  # 1.7 in a random order
    means = steps.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15  # three standard errors


def test_examples_share_steps_with_others_in_every_epoch() -> None:
    lengths = random_lengths(4_000)
    together = []
    for epoch in (1, 2):
        steps = epoch_order(lengths, 1, epoch, 8).reshape(-1, 8)
        together.append({frozenset((int(a), int(b))) for step in steps for a in step for b in step if a < b})
    assert len(together[0] & together[1]) < 0.05 * len(together[0])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("linear", [0.0, 0.5, 1.0, 0.75, 0.5, 0.25]),
        ("constant", [0.0, 0.5, 1.0, 1.0, 1.0, 1.0]),
        ("cosine", [0.0, 0.5, 1.0, (1 + 2**-0.5) / 2, 0.5, (1 - 2**-0.5) / 2]),
    ],
)
def test_learning_rate_formulas(name: str, expected: list[float]) -> None:
    fields = TrainingFields(learning_rate=1.0, warmup_steps=2, schedule=name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    lr_scheduler = build_lr_scheduler(optimizer, fields, steps=6)
    learning_rates = []
    for _ in range(6):
        learning_rates.append(lr_scheduler.get_last_lr()[0])
        optimizer.step()
        lr_scheduler.step()
    assert learning_rates == pytest.approx(expected)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_memory_does_not_grow_over_epochs() -> None:
    """The weights are 0.7 MB, and every epoch is the best so far; logits of an evaluation are 2 MB."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForMaskedLM(BertConfig(vocab_size=5_000, **sizes))
    examples = MaskedExamples(random_tokens(64, 5_000), 1, 0.15, 4, 5_000, 0)
    fields = Adapt(kind="adapt", epochs=40, per_device_batch_size=8, mixed_precision="no")
    objective = MaskedLMObjective(fields, model, [])
    megabytes: list[float] = []
    better = itertools.count()

    class RecordMemory(Callback):
        def on_epoch_end(self, event: EpochEnd) -> None:
            match = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
            assert match is not None
            megabytes.append(int(match[1]) / 1024)

    toy = ToyObjective(objective.loss, evaluate=lambda: objective.measure(examples), score=lambda _: next(better))
    train(model, examples, fields, toy, seed=1, context=TrainingContext(callbacks=(RecordMemory(),)))
    assert max(megabytes[20:]) - max(megabytes[10:20]) < 2, megabytes  # in 20 epochs of 8 steps
