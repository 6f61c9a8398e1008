"""How a model was trained, in a few words, from its settings."""

from __future__ import annotations

from ftjobs.jobfile.fields import Adapt, Classify


def trained(settings: Classify) -> str:
    """What became of the encoder: `frozen`, `fine-tuned`, `fine-tuned in its highest 2 layers`, …"""
    if settings.freeze_encoder:
        return "frozen"
    if settings.lora is not None:
        return f"fine-tuned through {settings.lora}"
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
    """What was done on the texts: `masked language modelling of whole words through LoRA of rank 8`."""
    through = f" through {settings.lora}" if settings.lora is not None else ""
    return f"{settings.in_words}{through}"


def besides(settings: Adapt) -> str:
    """What else was done to the encoder: `, with words of the domain added to its tokenizer`, or nothing."""
    return ", with words of the domain added to its tokenizer" if settings.vocabulary is not None else ""


def counted(parameters: dict[str, int], low_rank: bool) -> str:
    """How many parameters were trained."""
    if low_rank:
        return (
            f"Trained were {parameters['trained']:,} parameters, of low-rank adapters and of what was new; the "
            f"adapters are part of the model's {parameters['all']:,} now."
        )
    return f"Of the model's {parameters['all']:,} parameters, {parameters['trained']:,} were trained."
