"""How a model was trained, in a few words, from its settings."""

from __future__ import annotations

from ftjobs.jobfile.fields import Adapt, Classify


def trained(settings: Classify) -> str:
    """What became of the encoder: `frozen`, `fine-tuned`, `fine-tuned in its highest 2 layers`, …"""
    if settings.freeze_encoder:
        return "frozen"
    if settings.lora is not None:
        return f"fine-tuned through {settings.lora}, merged"
    if settings.unfreeze == "gradual":
        how = "fine-tuned from the top, one layer more in each epoch"
    elif settings.unfreeze != "all":
        count = int(settings.unfreeze.removeprefix("last-"))
        how = f"fine-tuned in its highest {f'{count} layers' if count > 1 else 'layer'}"
    else:
        how = "fine-tuned"
    if settings.reinitialise_layers:
        count = settings.reinitialise_layers
        how += f", after new weights for the highest {f'{count} layers' if count > 1 else 'layer'}"
    return how


def adapted(settings: Adapt) -> str:
    """What was done on the texts: `masked language modelling of whole words through LoRA of rank 8, merged`."""
    through = f" through {settings.lora}, merged" if settings.lora is not None else ""
    return f"{settings.in_words}{through}"
