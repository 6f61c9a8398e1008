"""Low-rank adapters in an encoder while it is trained, through peft; none is left in what is published.

They are put into the model in place and the model is not wrapped, so the names of its other parameters, the hooks on
its modules and all that knows its parts work as without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Lora
from ftjobs.system.progress import LOG

#: What modules of attention are called in a layer: `attention`, `attn`, `self_attn`, `SelfAttention`.
_ATTENTION = ("attention", "attn")


@contextmanager
def adapters(model: PreTrainedModel, settings: Lora | None, wholly: list[str]) -> Iterator[dict[str, int] | None]:
    """Within the block, `model` trains low-rank adapters and the parameters named `wholly`, and keeps all others;
    afterwards the adapters are added to the weights they stand beside, and the model has the modules it had.

    Args:
        model: a transformers model with a head.
        settings: rank, scale and targets; without them nothing is done.
        wholly: parameters that the checkpoint had not, of the head for instance.

    Yields:
        How many parameters are `trained`, and how many the model has in `all` without adapters; None without settings.

    Raises:
        UserError: the encoder has no linear layers of these names.
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
    for name in wholly:
        model.get_parameter(name).requires_grad = True
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    LOG.info("%s on %d linear layers: %d of %d parameters are trained", settings, len(targets), trained, total)
    yield {"trained": trained, "all": total}
    tuner.merge_and_unload()


def target_modules(model: PreTrainedModel, settings: Lora) -> list[str]:
    """Names of the linear layers, within the layers of the encoder, that `settings.target_modules` means.

    Raises:
        UserError: there are none; says which there are.
    """
    linear = list(_linear_layers(model))
    wanted = settings.target_modules
    if wanted == "all-linear":
        return linear
    if wanted == "attention":
        found = [name for name in linear if any(_is_attention(part) for part in name.split(".")[:-1])]
        missing: list[str] = [] if found else [wanted]
    else:
        found = [name for name in linear if any(f".{name}".endswith(f".{end}") for end in wanted)]
        missing = [end for end in wanted if not any(f".{name}".endswith(f".{end}") for name in linear)]
    if missing:
        known = ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in linear)) or "none"
        raise UserError(
            f"lora.target_modules: no linear layer of this `{model.config.model_type}` is named `{missing[0]}`; those "
            f"of its layers are: {known}"
        )
    return found


def _linear_layers(model: PreTrainedModel) -> Iterator[str]:
    """Those in a list of layers, so without embeddings' projections, pooler and head."""
    lists = [name for name, module in model.base_model.named_modules() if isinstance(module, nn.ModuleList)]
    for name, module in model.base_model.named_modules():
        if type(module) is nn.Linear and any(name.startswith(f"{one}.") for one in lists):
            yield f"{model.base_model_prefix}.{name}"


def _is_attention(part: str) -> bool:
    return any(word in part.lower() for word in _ATTENTION)
