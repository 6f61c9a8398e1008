"""What a step means: the same whatever its division into passes and processes, resumable order, best epoch kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.data.examples.batching import LabeledExamples, accumulation_windows, epoch_order, steps_per_epoch
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Classify, Lora, TrainingFields
from ftjobs.models import heads
from ftjobs.tasks.classification import Classification, WeightedCrossEntropy
from ftjobs.training import layerwise, lora
from ftjobs.training.loop import train
from ftjobs.training.optimization import precision, schedule
from tests.training.test_trainer_parity import NO_DROPOUT, SEED, random_tokens

Steps = list[tuple[float, float]]


def settings(**fields: Any) -> Classify:
    return Classify(**{"epochs": 2, "learning_rate": 1e-3, "mixed_precision": "no", **fields})


def train_classifier(folder: Path, fields: Classify, **options: Any) -> tuple[Any, Steps, Any]:
    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    tuned = layerwise.prepare(model, fields)
    tokens = random_tokens(52, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.random.default_rng(1).integers(0, 2, size=len(tokens)), pad_token_id=0)
    criterion = Classification().criterion(fields, ["a", "b"], examples.labels)
    steps: Steps = []
    sign = 1 if fields.early_stopping is None else -1  # the last epoch is the best, or the first
    options = {"evaluate": dict, "score": lambda metrics: sign * len(steps), **options}
    head = [name for name, _ in model.named_parameters() if not heads.is_encoder(model, name)]
    with lora.adapters(model, fields.lora, head):
        trained = train(
            model,
            examples,
            fields,
            seed=SEED,
            loss=criterion.loss,
            items=criterion.num_items,
            tuning=tuned,
            on_step=lambda step, loss, rate: steps.append((float(loss), rate)),
            **options,
        )
    return model, steps, trained


@pytest.mark.parametrize("loss", [{}, {"class_weights": {"a": 0.1, "b": 3.0}, "label_smoothing": 0.2}])
def test_accumulated_passes_are_one_step(make_encoder: Callable[..., Path], loss: dict[str, Any]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    _, whole, _ = train_classifier(folder, settings(per_device_batch_size=8, **loss))
    _, parts, _ = train_classifier(folder, settings(per_device_batch_size=2, gradient_accumulation_steps=4, **loss))
    _, uneven, _ = train_classifier(folder, settings(per_device_batch_size=1, gradient_accumulation_steps=8, **loss))
    np.testing.assert_allclose(parts, whole, rtol=1e-4)
    np.testing.assert_allclose(uneven, whole, rtol=1e-4)


#: What is trained on one process, in batches of eight, and on two, in batches of four.
IN_PARALLEL: list[dict[str, Any]] = [
    {"warmup_steps": 3},
    {"epochs": 4, "unfreeze": "gradual", "layer_decay": 0.5, "weight_decay": 0.1},
    {"epochs": 5, "early_stopping": 2, "class_weights": {"a": 0.1, "b": 3.0}, "label_smoothing": 0.2},
    {"lora": Lora(rank=2)},
]


def test_two_processes_take_the_steps_of_one(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """Loss and learning rate of every step, although accelerate's own scheduler would advance twice as fast."""
    folder = make_encoder("bert", **NO_DROPOUT)
    alone = [train_classifier(folder, settings(per_device_batch_size=8, **fields))[1] for fields in IN_PARALLEL]
    out = tmp_path / "steps.json"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    subprocess.run(
        [*launcher, "-m", "tests.helpers.two_processes", str(folder), str(out)],
        env={**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=240,
        cwd=Path(__file__).parent.parent.parent,
    )
    for found, expected in zip(json.loads(out.read_text()), alone, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_best_epoch_is_what_the_model_keeps(make_encoder: Callable[..., Path]) -> None:
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
        seed=SEED,
        loss=WeightedCrossEntropy().loss,
        evaluate=evaluate,
        score=lambda metrics: metrics["accuracy"],
    )
    assert trained.best_epoch == 2  # the first of two equals
    assert [record["accuracy"] for record in trained.epochs] == [0.5, 0.9, 0.9]
    assert not torch.equal(seen[1]["classifier.weight"], seen[2]["classifier.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[1][name]), name


def test_early_stopping_waits_as_long_as_it_says_and_leaves_the_schedule_as_planned(
    make_encoder: Callable[..., Path],
) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    _, planned, _ = train_classifier(folder, settings(epochs=6))
    for patience, expected in ((1, 2), (2, 5), (9, 6)):
        scores = iter([0.5, 0.5, 0.9, 0.1, 0.9, 0.2])  # as good as the best is no better
        fields = settings(epochs=6, early_stopping=patience)
        _, steps, trained = train_classifier(folder, fields, score=lambda _, scores=scores: next(scores))
        assert len(trained.epochs) == expected
        assert trained.best_epoch == (1 if patience == 1 else 3)
        assert steps == planned[: 7 * expected]
        assert trained.stopping(fields) == {"epochs_run": expected}


def test_a_loss_that_is_not_finite_is_an_error(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    with pytest.raises(FtjobsError, match=r"loss is (nan|inf).*lower the learning rate"):
        train_classifier(folder, settings(learning_rate=10.0, max_grad_norm=0.0, weight_decay=10.0, epochs=60))


def test_evaluation_is_in_fp32_while_training_is_in_bf16(make_encoder: Callable[..., Path]) -> None:
    folder = make_encoder("bert", **NO_DROPOUT)
    kinds: list[torch.dtype] = []
    training_kinds: list[torch.dtype] = []

    torch.manual_seed(0)
    model, _ = heads.load_classifier(folder, ["a", "b"])
    layer = model.bert.encoder.layer[0].output.dense
    layer.register_forward_hook(lambda _, __, out: (training_kinds if model.training else kinds).append(out.dtype))
    tokens = random_tokens(16, model.config.vocab_size)
    examples = LabeledExamples(tokens, np.arange(16) % 2, pad_token_id=0)

    def evaluate() -> dict[str, float]:
        model.eval()
        model(**examples.batch(np.arange(4), 0).inputs)
        return {}

    fields = settings(mixed_precision="bf16")
    train(model, examples, fields, seed=1, loss=WeightedCrossEntropy().loss, evaluate=evaluate, score=lambda _: 0.0)
    assert set(kinds) == {torch.float32}
    assert set(training_kinds) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_fp16_without_a_gpu_is_refused() -> None:
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        precision("fp16", torch.device("cpu"))


def random_lengths(examples: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, 100, size=examples)


@pytest.mark.parametrize("examples", [1, 7, 8, 9, 100])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_example_once_and_all_processes_in_step(examples: int, world: int) -> None:
    order = epoch_order(random_lengths(examples), 5, 2, 3 * 2 * world)
    per_process = [list(accumulation_windows(order, 3, 2, rank, world)) for rank in range(world)]
    steps = {len(steps) for steps in per_process}
    assert steps == {steps_per_epoch(examples, 3 * 2 * world)}
    used = [index for steps in per_process for window in steps for indices in window for index in indices]
    assert sorted(used) == list(range(examples))
    assert all(window for steps in per_process for window in steps)
    assert max(len(indices) for steps in per_process for window in steps for indices in window) <= 3


def test_order_depends_on_seed_and_epoch_alone() -> None:
    lengths = random_lengths(50)
    assert epoch_order(lengths, 1, 1, 4).tolist() == epoch_order(lengths, 1, 1, 4).tolist()
    orders = {tuple(epoch_order(lengths, seed, epoch, 4)) for seed in (1, 2) for epoch in (1, 2)}
    assert len(orders) == 4


def test_a_step_has_one_length_and_steps_do_not() -> None:
    lengths = random_lengths(4_000)
    steps = lengths[epoch_order(lengths, 1, 1, 8)].reshape(-1, 8)
    padded = steps.max(axis=1).sum() * 8 / lengths.sum()
    assert padded < 1.03  # 1.7 in a random order
    means = steps.mean(axis=1)
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15  # three standard errors


def test_a_text_meets_others_in_every_epoch() -> None:
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
    rates = schedule(optimizer, fields, steps=6)
    found = []
    for _ in range(6):
        found.append(rates.get_last_lr()[0])
        optimizer.step()
        rates.step()
    assert found == pytest.approx(expected)
