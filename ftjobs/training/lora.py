"""LoRA: low-rank adapters in an encoder during training, with peft; merged into the weights before publishing.

Adapters are inserted in place and the model is not wrapped, so names of other parameters and hooks on modules stay
valid.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Lora
from ftjobs.system.progress import LOG

#: Parts of the names of attention modules: `attention`, `attn`, `self_attn`, `SelfAttention`.
_ATTENTION = ("attention", "attn")


@contextmanager
def adapters(
    model: PreTrainedModel, settings: Lora | None, fully_trained: list[str]
) -> Iterator[dict[str, int] | None]:
    """Within the block, train low-rank adapters and the parameters `fully_trained`, and freeze all others; afterwards
    merge the adapters into the weights and restore the original modules.

    Args:
        model: a transformers model with a head.
        settings: rank, scale and targets; None disables adapters.
        fully_trained: names of parameters that the checkpoint does not contain, of a new head for example.

    Yields:
        Numbers of parameters: `trained`, and `all` of the model without adapters. None without settings.

    Raises:
        UserError: the encoder has no linear layers of the target names.
    """
    if settings is None:
        yield None
        return
    from peft import LoraConfig, LoraModel

    targets = target_modules(model, settings)
    total = sum(parameter.numel() for parameter in model.parameters())
    config = LoraConfig(
        r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout, target_modules=targets
    )
    tuner = LoraModel(model, config, "default")  # freezes all but the adapters
    for name in fully_trained:
        model.get_parameter(name).requires_grad = True
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    LOG.info("%s on %d linear layers: %d of %d parameters are trained", settings, len(targets), trained, total)
    yield {"trained": trained, "all": total}
    tuner.merge_and_unload()


def target_modules(model: PreTrainedModel, settings: Lora) -> list[str]:
    """Return the names of the linear layers, within the layers of the encoder, that `settings.target_modules` selects.

    Raises:
        UserError: there are none; the message lists the available ones.
    """
    linear = list(_linear_layers(model))
    targets = settings.target_modules
    if targets == "all-linear":
        return linear
    if targets == "attention":
        selected = [name for name in linear if any(_is_attention(part) for part in name.split(".")[:-1])]
        missing: list[str] = [] if selected else [targets]
    else:
        selected = [name for name in linear if any(f".{name}".endswith(f".{end}") for end in targets)]
        missing = [end for end in targets if not any(f".{name}".endswith(f".{end}") for name in linear)]
    if missing:
        known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear)) or "none"
        raise UserError(
            f"lora.target_modules: no linear layer of this `{model.config.model_type}` is named `{missing[0]}`; its "
            f"layers have: {known}"
        )
    return selected


def _linear_layers(model: PreTrainedModel) -> Iterator[str]:
    """Yield the linear layers within the encoder's list of layers: no projections of embeddings, pooler or head."""
    module_lists = [name for name, module in model.base_model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in model.base_model.named_modules():
        if type(module) is nn.Linear and any(name.startswith(f"{prefix}.") for prefix in module_lists):
            yield f"{model.base_model_prefix}.{name}"


def _is_attention(part: str) -> bool:
    return any(word in part.lower() for word in _ATTENTION)
