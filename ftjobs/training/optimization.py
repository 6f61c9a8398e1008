"""Optimizer, learning-rate schedule and numeric precision, as `transformers.Trainer` sets them up by default."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import TrainingFields


def build_optimizer(
    model: nn.Module, settings: TrainingFields, factor: Callable[[str], float] = lambda _: 1.0
) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019) over the trainable parameters, without decay on biases and norms.

    Args:
        model: whose parameters.
        settings: learning rate, decay and moments.
        factor: what the learning rate of a parameter is multiplied with, by its name; the first group has the highest.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = []
    for share in sorted({factor(name) for name, _ in trainable}, reverse=True):
        alike = [(name, parameter) for name, parameter in trainable if factor(name) == share]
        rate = settings.learning_rate * share
        groups += [
            {"params": [p for n, p in alike if decays(n, p)], "weight_decay": settings.weight_decay, "lr": rate},
            {"params": [p for n, p in alike if not decays(n, p)], "weight_decay": 0.0, "lr": rate},
        ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )


def decays(name: str, parameter: torch.Tensor) -> bool:
    """Whether weight decay applies: not to biases, also where they form a table (MPNet's relative attention bias), and
    not to the weights of norms, which in every encoder family are the parameters of one dimension."""
    return parameter.ndim >= 2 and "bias" not in name


def schedule(optimizer: torch.optim.Optimizer, settings: TrainingFields, steps: int) -> LRScheduler:
    """The learning rate over `steps` optimizer steps: warm-up from 0, then as `settings.schedule` says.

    The formulas of transformers' `get_scheduler`, which would import its Trainer's modules and peft at every start.
    """
    warmup, decaying = settings.warmup_steps, max(1, steps - settings.warmup_steps)

    def share(step: int) -> float:
        if step < warmup:
            return step / warmup
        if settings.schedule == "constant":
            return 1.0
        if settings.schedule == "linear":
            return max(0.0, (steps - step) / decaying)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / decaying))))

    return LambdaLR(optimizer, share)


def precision(wanted: str, device: torch.device) -> str:
    """The mixed precision to train in on a device: `no`, `bf16` or `fp16`.

    Raises:
        UserError: the device cannot do what is wanted.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise UserError("mixed_precision: fp16 needs a GPU and this machine has none; write `auto`, `bf16` or `no`")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"
    return "no"


def autocast(wanted: str, device: torch.device) -> torch.autocast:
    """A block in the mixed precision that a stage trains in, for passes outside of the loop.

    Raises:
        UserError: the device cannot do what is wanted.
    """
    kind = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision(wanted, device)]
    return torch.autocast(device.type, kind, enabled=kind is not None)
