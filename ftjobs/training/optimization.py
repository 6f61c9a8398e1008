"""Optimizer, learning-rate schedule, numeric precision and accelerator, with the defaults of `transformers.Trainer`."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import TrainingFields
from ftjobs.system.device import on_cpu, training_device
from ftjobs.training.speedups.sparse_embeddings import check_optimizer


def build_optimizer(
    model: nn.Module, settings: TrainingFields, lr_factor: Callable[[str], float] = lambda _: 1.0
) -> Optimizer:
    """Build AdamW (Loshchilov and Hutter 2019) over the trainable parameters, without decay on biases and norms.

    All optimizers are built here.

    Args:
        model: model whose trainable parameters are optimized.
        settings: learning rate, weight decay and moments.
        lr_factor: factor of the learning rate by parameter name. The first group has the highest learning rate.

    Raises:
        FtjobsError: the model has a speed-up that is not exact under this optimizer.
    """
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = []
    for factor in sorted({lr_factor(name) for name, _ in trainable}, reverse=True):
        members = [(name, parameter) for name, parameter in trainable if lr_factor(name) == factor]
        rate = settings.learning_rate * factor
        groups += [
            {"params": [p for n, p in members if has_decay(n, p)], "weight_decay": settings.weight_decay, "lr": rate},
            {"params": [p for n, p in members if not has_decay(n, p)], "weight_decay": 0.0, "lr": rate},
        ]
    optimizer = AdamW(
        [group for group in groups if group["params"]],
        lr=settings.learning_rate,
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=True,
    )
    check_optimizer(model, optimizer)
    return optimizer


def has_decay(name: str, parameter: torch.Tensor) -> bool:
    """Return whether weight decay applies to a parameter.

    It does not apply to biases, including those that form a table (MPNet's relative attention bias), nor to the weights
    of norms, which are the one-dimensional parameters in every encoder family.
    """
    return parameter.ndim >= 2 and "bias" not in name


def build_lr_scheduler(optimizer: Optimizer, settings: TrainingFields, steps: int) -> LRScheduler:
    """Return the learning-rate schedule over `steps` optimizer steps: warm-up from 0, then `settings.schedule`.

    The formulas are those of transformers' `get_scheduler`, whose import would load its Trainer and peft.
    """
    warmup, decaying = settings.warmup_steps, max(1, steps - settings.warmup_steps)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        if settings.schedule == "constant":
            return 1.0
        if settings.schedule == "linear":
            return max(0.0, (steps - step) / decaying)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * ((step - warmup) / decaying))))

    return LambdaLR(optimizer, factor)


def build_accelerator(mixed_precision: str, unused_parameters: bool) -> Accelerator:
    """Return an accelerator for one training run.

    Args:
        mixed_precision: as in the job file.
        unused_parameters: whether some parameters are trained in later epochs only. Processes would wait for their
            gradients otherwise.
    """
    AcceleratorState._reset_state()  # one process may run stages of different precision in turn
    return Accelerator(
        cpu=on_cpu(),
        mixed_precision=resolve_precision(mixed_precision, training_device()),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)] if unused_parameters else None,
    )


def resolve_precision(mixed_precision: str, device: torch.device) -> str:
    """Return the mixed precision for training on a device: `no`, `bf16` or `fp16`.

    Args:
        mixed_precision: as in the job file; `auto` selects bf16 where the hardware has it, fp16 on older GPUs, else no.
        device: where training runs.

    Raises:
        UserError: the device does not support the requested precision.
    """
    if mixed_precision == "fp16" and device.type == "cpu":
        raise UserError("mixed_precision: fp16 needs a GPU and this machine has none; write `auto`, `bf16` or `no`")
    if mixed_precision != "auto":
        return mixed_precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return "bf16"
    return "no"


def autocast(mixed_precision: str, device: torch.device) -> torch.autocast:
    """Return an autocast context in the mixed precision of training, for forward passes outside the training loop.

    Raises:
        UserError: the device does not support the requested precision.
    """
    precision = resolve_precision(mixed_precision, device)
    dtype = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    return torch.autocast(device.type, dtype, enabled=dtype is not None)
