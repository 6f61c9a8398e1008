"""Checkpoints: download, copy, read and write weights, load configurations and tokenizers."""

from __future__ import annotations

import json
import shutil
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ftjobs.errors import FtjobsError, UserError
from ftjobs.objectives import all_objectives
from ftjobs.system.hub_errors import causes, is_temporary, reason, refusal

WEIGHTS = "model.safetensors"
CARD = "README.md"
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", CARD]
_PICKLED = "pytorch_model*.bin"
_TYPES = "token_type_ids"


def download(model: str, revision: str) -> tuple[Path, str]:
    """Download a model from the hub, with weights in one format.

    Returns:
        The folder, and the commit of `revision`.

    Raises:
        UserError: the hub has no such model or revision, or requires a log-in.
        FtjobsError: the hub does not answer.
    """
    where = f"encoder.model: `{model}` at revision `{revision}`"
    try:
        info = HfApi().model_info(model, revision=revision)
        names = [sibling.rfilename for sibling in info.siblings or []]
        safe = any(name.endswith(".safetensors") for name in names)
        patterns = _HUB_FILES if safe else [*_HUB_FILES, _PICKLED]
        folder = snapshot_download(
            model, revision=info.sha, allow_patterns=patterns, ignore_patterns=["*/*", "tf_*", "flax_*"]
        )
        return Path(folder), str(info.sha)
    except Exception as error:
        if message := refusal(error, model, "model"):
            raise UserError(f"{where}: {message}") from error
        if not any(is_temporary(cause) for cause in causes(error)):
            raise
        raise FtjobsError(
            f"{where}: the hub cannot be reached ({reason(error)}); try again, or set encoder.model to a folder"
        ) from error


def copy_checkpoint(folder: Path, destination: Path) -> None:
    """Copy configuration, tokenizer, model card and all weights of a checkpoint to `destination`, the weights as one
    safetensors file, and the companion folders of objectives (the generator of an ELECTRA).

    Raises:
        UserError: the folder is not a readable checkpoint; the message names the missing or broken part.
    """
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) > getattr(config, "vocab_size", len(tokenizer)):
        raise UserError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens but the model embeds {config.vocab_size}; "
            "use tokenizer and model of the same checkpoint"
        )
    _copy_model(folder, destination)
    if (folder / CARD).is_file():
        shutil.copyfile(folder / CARD, destination / CARD)
    tokenizer.save_pretrained(destination)
    for objective in all_objectives():
        companion = objective.companion_folder
        if companion and config.model_type in objective.encoder_types and (folder / companion).is_dir():
            load_config(folder / companion)
            _copy_model(folder / companion, destination / companion)


def _copy_model(folder: Path, destination: Path) -> None:
    """Copy weights and configuration."""
    destination.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS).is_file():
        read_weights(folder)  # detects a broken file
        shutil.copyfile(folder / WEIGHTS, destination / WEIGHTS)
    else:
        write_weights(read_weights(folder), destination)
    shutil.copyfile(folder / "config.json", destination / "config.json")


def load_config(folder: Path) -> PreTrainedConfig:
    """Load the configuration of a checkpoint.

    Raises:
        UserError: there is no config.json, or its model type is unknown.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: not a checkpoint, it has no config.json; use a folder that `save_pretrained` wrote")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{folder}/config.json: no readable model configuration: {_first_line(error)}; fetch it again"
        ) from error


def class_names(config: PreTrainedConfig) -> list[str]:
    """Return the names of a checkpoint's outputs, in the order of their indices."""
    return [str(name) for _, name in sorted((config.id2label or {}).items())]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a checkpoint.

    Raises:
        UserError: there is none, or it has no padding token or no fast (Rust) implementation.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"{folder}: no readable tokenizer ({_first_line(error)}); save one to this folder with "
            "`tokenizer.save_pretrained`"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(f"{folder}: has no tokenizer files; save one to this folder with `tokenizer.save_pretrained`")
    if not tokenizer.is_fast:
        raise UserError(f"{folder}: its tokenizer has no fast version; convert it to a tokenizer.json first")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: its tokenizer has no padding token; choose an encoder with one, such as BERT")
    for option in ("is_local", "local_files_only"):  # transformers would save these options with the tokenizer
        tokenizer.init_kwargs.pop(option, None)
    _set_token_types(tokenizer, load_config(folder))
    return tokenizer


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read all weights of a checkpoint by name: safetensors (also sharded), otherwise PyTorch's format.

    Raises:
        UserError: there are no weights, or they are not readable.
    """
    files = _weight_files(folder)
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            if file.suffix == ".safetensors":
                with safe_open(file, framework="pt") as opened:
                    weights.update({name: opened.get_tensor(name) for name in opened.keys()})  # noqa: SIM118
            else:
                loaded = torch.load(file, map_location="cpu", weights_only=True)
                weights.update({name: value for name, value in loaded.items() if isinstance(value, torch.Tensor)})
        except (SafetensorError, OSError, RuntimeError, ValueError, AttributeError, EOFError, KeyError) as error:
            raise UserError(f"{file}: no readable weights: {_first_line(error)}; fetch the file again") from error
        except Exception as error:
            if type(error).__name__ != "UnpicklingError":
                raise
            raise UserError(f"{file}: contains more than weights; use a safetensors checkpoint") from error
    return weights


def write_weights(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write weights as one safetensors file; tensors that share memory are written separately."""
    separate = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(separate, folder / WEIGHTS, metadata={"format": "pt"})


def max_input_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> int:
    """Return the maximum tokens of an input: `max_length`, limited by position embeddings and tokenizer.

    RoBERTa-like families start positions after the padding index, so their first rows of position embeddings are
    unused.
    """
    positions = getattr(model.config, "max_position_embeddings", None) or max_length
    limits = [max_length, tokenizer.model_max_length, positions]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limits.append(module.weight.shape[0] - module.padding_idx - 1)
    return int(min(limits))


def _set_token_types(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Let the tokenizer return token types if, and only if, the encoder distinguishes the texts of a pair by them.

    Defaults of tokenizer classes are independent of the encoder: ALBERT's returns none for encoders with two types,
    BERT's returns two for encoders with one or none. The change is saved with the tokenizer.
    """
    returned = _TYPES in tokenizer.model_input_names
    types = getattr(config, "type_vocab_size", None)
    if types is not None:
        accepted = types > 1
    else:
        encoders = AutoModel._model_mapping.get(type(config), ())
        encoder_classes = encoders if isinstance(encoders, tuple) else (encoders,)  # Funnel has two
        accepted = returned and any(_TYPES in signature(encoder.forward).parameters for encoder in encoder_classes)
    if accepted != returned:
        others = [name for name in tokenizer.model_input_names if name != _TYPES]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = others + [_TYPES] * accepted


def _weight_files(folder: Path) -> list[Path]:
    for name in (WEIGHTS, "pytorch_model.bin"):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                mapping: dict[str, Any] = json.loads(index.read_text())["weight_map"]
                shards = sorted(set(mapping.values()))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{index}: no readable index of weight files: {_first_line(error)}; fetch it again"
                ) from error
            missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
            if missing:
                raise UserError(f"{folder}: weight file {missing[0]} is missing; fetch the checkpoint again")
            return [folder / shard for shard in shards]
    raise UserError(f"{folder}: has no weights; fetch {WEIGHTS} or pytorch_model.bin into this folder")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
