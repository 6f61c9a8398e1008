"""The matrix-multiply peak of this machine, and the operations that a stage requires at least."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from ftjobs.data import prepared
from ftjobs.data.examples.tokenization import tokenize
from ftjobs.models import checkpoints
from ftjobs.training.optimization import resolve_precision

_SIZE = {"cpu": 2048, "cuda": 8192}


def matmul_peak() -> tuple[float, str]:
    """Return the highest rate of floating-point operations (per second) in products of large square matrices, and its
    precision: bf16 if training would use it."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = resolve_precision("auto", device)
    dtype = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[kind]
    size = _SIZE[device.type]
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    best = 0.0
    for _ in range(8):
        started = time.perf_counter()
        float((a @ b)[0, 0])
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best, kind.replace("no", "fp32")


def tokens_and_operations(prepare_output: Path, stage: Any) -> tuple[int, float]:
    """Return the tokens per epoch of a stage, and the floating-point operations that all its epochs require at least.

    Per weight and token, two operations forward and four backward, plus attention. A frozen encoder runs once. The
    output layer runs for masked tokens only.
    """
    rows = prepared.read(prepare_output / "data").splits["train"]
    tokenizer = checkpoints.load_tokenizer(prepare_output / "model")
    config = checkpoints.load_config(prepare_output / "model")
    mlm = stage.kind == "adapt"
    texts = (rows.all_texts, None) if mlm else (rows.texts, rows.pairs)
    lengths = tokenize(tokenizer, *texts, 512).lengths
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    forward = float((2 * weights * lengths + 4 * layers * width * lengths**2).sum())
    if mlm:
        forward += 2 * 0.15 * float(lengths.sum()) * width * config.vocab_size
    passes = 1.0 if not mlm and stage.freeze_encoder else 3.0 * stage.epochs
    return int(lengths.sum()), forward * passes
