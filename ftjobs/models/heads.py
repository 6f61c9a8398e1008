"""Load encoders with a head, freeze them, and save complete checkpoints.

A checkpoint saved as `...ForMaskedLM` has no pooler, and loading it as a classifier initializes one at random; freezing
the encoder would freeze noise. Therefore newly initialized parameters are never frozen, and every weight of a
checkpoint is kept through adaptation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ftjobs.errors import UserError
from ftjobs.models import checkpoints
from ftjobs.system.progress import LOG
from ftjobs.tasks import DEFAULT_LABEL_TYPE, all_tasks, get_task

transformers.logging.set_verbosity_error()  # its load report warns of new heads, which are logged here
transformers.logging.disable_progress_bar()

#: Architectures whose heads share parameter names with classifiers but were trained for another purpose.
_HEADS = ("ForSequenceClassification", "ForTokenClassification", "ForMultipleChoice", "ForQuestionAnswering")
#: Weights are loaded in fp32 regardless of the checkpoint's precision: bf16 weights would lose small updates.
_LOAD_OPTIONS: dict[str, Any] = {"dtype": torch.float32, "trust_remote_code": False}
#: Families that the tests of ftjobs run through every stage.
TESTED_FAMILIES = frozenset(
    ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta")
)
_SMOKE_TEST_TEXTS = ["one two three four five six", "one two"]


def load_masked_lm(folder: Path) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder with its masked-LM head, in fp32.

    Returns:
        The model, and the names of parameters that the checkpoint does not contain (of a new head, for example).

    Raises:
        UserError: the family has no masked-LM head, or the checkpoint is not readable.
    """
    config = checkpoints.load_config(folder)
    if config.is_encoder_decoder:
        raise UserError(
            f"{folder}: models of type `{config.model_type}` have a decoder, which masked language modeling would not "
            "train; choose an encoder-only model"
        )
    return _load(AutoModelForMaskedLM, folder, config)


def load_pretraining(folder: Path, config: PreTrainedConfig) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder with all pretraining heads of its family, in fp32; otherwise like `load_masked_lm`.

    Args:
        folder: a checkpoint.
        config: its configuration, possibly changed.
    """
    return _load(AutoModelForPreTraining, folder, config)


def load_classifier(
    folder: Path, classes: list[str], label_type: str = DEFAULT_LABEL_TYPE
) -> tuple[PreTrainedModel, list[str]]:
    """Load an encoder with a classification head, in fp32.

    The checkpoint's head is kept if it was trained for the same task with the same outputs in the same order.
    Otherwise the whole head is initialized, even where shapes match.

    Args:
        folder: a checkpoint.
        classes: names of the outputs.
        label_type: the task.

    Returns:
        The model, and the names of newly initialized parameters (from torch's global generator).

    Raises:
        UserError: the family has no classification head, or the checkpoint is not readable.
    """
    config = checkpoints.load_config(folder)
    kept = label_type_of(config) == label_type and checkpoints.class_names(config) == classes
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}
    _set_label_type(config, label_type)
    model, new = _load(AutoModelForSequenceClassification, folder, config)
    if not kept and any(name.endswith(_HEADS) for name in config.architectures or []):
        fresh = AutoModelForSequenceClassification.from_config(config)
        head = [name for name, _ in model.named_parameters() if not is_encoder(model, name)]
        model.load_state_dict({name: fresh.get_parameter(name) for name in head}, strict=False)
        new = sorted({*new, *head})
    return model, new


def label_type_of(config: PreTrainedConfig) -> str | None:
    """Return the task that a checkpoint's head was trained for, None for checkpoints of other architectures.

    A configuration names its task in `label_type` only where several tasks share a problem type. Without a problem
    type, a single output means regression, as in transformers.
    """
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        return None
    if (recorded := getattr(config, "label_type", None)) is not None:
        return next((task.name for task in all_tasks() if task.name == recorded), None)
    problem = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    return next((task.name for task in all_tasks() if task.owns_problem_type and task.problem_type == problem), None)


def _set_label_type(config: PreTrainedConfig, label_type: str) -> None:
    task = get_task(label_type)
    config.problem_type = task.problem_type
    if not task.owns_problem_type:
        config.label_type = task.name
    elif hasattr(config, "label_type"):
        del config.label_type


def is_encoder(model: PreTrainedModel, name: str) -> bool:
    """Return whether a parameter belongs to the encoder, including its pooler, and not to the head."""
    return name.startswith(f"{model.base_model_prefix}.")


def freeze_encoder(model: PreTrainedModel, new: list[str]) -> None:
    """Freeze every encoder parameter that came from a checkpoint; those in `new` are trained with the head."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name in new or not is_encoder(model, name)


def extra_weights(model: PreTrainedModel, folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a checkpoint that the class of `model` has no parameters for: pooler, pretraining heads.

    Returns:
        Tensors by the names of a model class that has parameters for them.
    """
    contained = set(model.state_dict())
    extra: dict[str, torch.Tensor] = {}
    for auto_class in (AutoModel, AutoModelForPreTraining, AutoModelForMaskedLM):
        if auto_class._model_mapping.get(type(model.config), type(model)) is type(model):
            continue
        other, loading = auto_class.from_pretrained(folder, output_loading_info=True, **_LOAD_OPTIONS)
        prefix = f"{model.base_model_prefix}." if auto_class is AutoModel else ""
        missing = set(loading["missing_keys"])
        tied = set(getattr(other, "all_tied_weights_keys", None) or {})
        for name, value in other.state_dict().items():
            if name not in missing and name not in tied and prefix + name not in contained:
                extra[prefix + name] = value
    return extra


def save(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, extra: dict[str, torch.Tensor]
) -> None:
    """Write a checkpoint that `from_pretrained` loads: the model, its tokenizer, and `extra_weights`."""
    model.save_pretrained(folder)
    if extra:
        checkpoints.write_weights(checkpoints.read_weights(folder) | extra, folder)
    tokenizer.save_pretrained(folder)


def new_modules(new: list[str]) -> str:
    """Return the modules of newly initialized parameters for a log: `bert.pooler.dense, classifier`."""
    return ", ".join(dict.fromkeys(name.rpartition(".")[0] or name for name in sorted(new)))


def _load(auto_class: Any, folder: Path, config: PreTrainedConfig) -> tuple[PreTrainedModel, list[str]]:
    task = auto_class.__name__.removeprefix("AutoModelFor")
    if type(config) not in auto_class._model_mapping:
        raise UserError(f"{folder}: encoders of type `{config.model_type}` have no {task} head in transformers")
    try:
        model, loading = auto_class.from_pretrained(
            folder, config=config, output_loading_info=True, ignore_mismatched_sizes=True, **_LOAD_OPTIONS
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(f"{folder}: no readable encoder: {reason}") from error
    new = {*loading["missing_keys"], *(key[0] for key in loading["mismatched_keys"])}
    missing = [name for name in new if is_encoder(model, name) and "pooler" not in name]
    if missing:
        total = sum(is_encoder(model, name) for name, _ in model.named_parameters())
        raise UserError(
            f"{folder}: no readable encoder: {len(missing)} of its {total} encoder weights are missing or of another "
            f"shape, such as {min(missing)}; use the config.json that belongs to the weights"
        )
    new_parameters = sorted(new & {name for name, _ in model.named_parameters()})
    for name in new_parameters:
        if name.endswith("bias"):  # 0 in every family; Data2Vec's masked-LM head leaves it uninitialized
            model.get_parameter(name).data.zero_()
    _smoke_test(model, folder)
    return model, new_parameters


@torch.no_grad()
def _smoke_test(model: PreTrainedModel, folder: Path) -> None:
    """Run an encoder of an untested family on two texts, and warn if padding changes the output of the shorter one.

    Args:
        model: a model with a head, loaded from `folder`.
        folder: its checkpoint.

    Raises:
        UserError: the encoder does not run on padded texts.
    """
    family = model.config.model_type
    if family in TESTED_FAMILIES:
        return
    tokenizer = checkpoints.load_tokenizer(folder)
    padded = tokenizer(_SMOKE_TEST_TEXTS, padding=True, pad_to_multiple_of=8, return_tensors="pt")
    alone = tokenizer(_SMOKE_TEST_TEXTS[-1:], return_tensors="pt")
    model.eval()
    try:
        together, single = (model(**inputs)[0].select(0, -1) for inputs in (padded, alone))
    except (RuntimeError, ValueError, IndexError, TypeError, AttributeError, KeyError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{folder}: encoders of type `{family}` do not run on a padded batch of short texts ({reason}); "
            f"choose another encoder, such as one of {', '.join(sorted(TESTED_FAMILIES))}"
        ) from error
    if single.ndim == 2:  # one row per token
        together = together[: len(single)]
    if not torch.allclose(together, single, rtol=1e-3, atol=1e-3 * float(single.std())):
        LOG.warning(
            "encoders of type `%s` do not ignore padding: their output for a text depends on the other texts of its "
            "batch", family,
        )  # fmt: skip
