"""Model folders: bring one in from the hub or a folder, read and write its weights, load its tokenizer."""

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
from ftjobs.jobfile.fields import GENERATOR
from ftjobs.system.hub_errors import causes, is_temporary, reason, refusal

WEIGHTS = "model.safetensors"
CARD = "README.md"
_HUB_FILES = ["*.json", "*.txt", "*.model", "*.safetensors", CARD]
_PICKLED = "pytorch_model*.bin"
_TYPES = "token_type_ids"


def download(model: str, revision: str) -> tuple[Path, str]:
    """Fetch a model from the hub, weights in one format only.

    Returns:
        The folder it lies in, and the commit that `revision` stands for.

    Raises:
        UserError: the hub has no such model or revision, or wants a log-in.
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
        if said := refusal(error, model, "model"):
            raise UserError(f"{where}: {said}") from error
        if not any(is_temporary(cause) for cause in causes(error)):
            raise
        raise FtjobsError(
            f"{where}: the hub cannot be reached ({reason(error)}); try again, or set encoder.model to a folder"
        ) from error


def copy_checkpoint(folder: Path, destination: Path) -> None:
    """Copy a checkpoint's configuration, tokenizer, model card if it has one, and every weight to `destination`, the
    weights as one safetensors file. The generator of an ELECTRA goes with it.

    Raises:
        UserError: the folder is no readable encoder; says what is missing or broken.
    """
    config = load_config(folder)
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) > getattr(config, "vocab_size", len(tokenizer)):
        raise UserError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens but the model embeds {config.vocab_size}; "
            "tokenizer and model are not from the same checkpoint"
        )
    _copy_model(folder, destination)
    if (folder / CARD).is_file():
        shutil.copyfile(folder / CARD, destination / CARD)
    tokenizer.save_pretrained(destination)
    if config.model_type == "electra" and (folder / GENERATOR).is_dir():
        load_config(folder / GENERATOR)
        _copy_model(folder / GENERATOR, destination / GENERATOR)


def _copy_model(folder: Path, destination: Path) -> None:
    """Copy weights and configuration."""
    destination.mkdir(parents=True, exist_ok=True)
    if (folder / WEIGHTS).is_file():
        read_weights(folder)  # so that a broken file is noticed here
        shutil.copyfile(folder / WEIGHTS, destination / WEIGHTS)
    else:
        write_weights(read_weights(folder), destination)
    shutil.copyfile(folder / "config.json", destination / "config.json")


def load_config(folder: Path) -> PreTrainedConfig:
    """The configuration of a model folder.

    Raises:
        UserError: no folder, no config.json in it, or not one of a known model.
    """
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder}: is no model folder, it has no config.json; give what `save_pretrained` wrote")
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{folder}/config.json: no readable model configuration: {_first_line(error)}") from error


def class_names(config: PreTrainedConfig) -> list[str]:
    """What a checkpoint calls its outputs, in the order of their indices."""
    return [str(name) for _, name in sorted((config.id2label or {}).items())]


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder.

    Raises:
        UserError: there is none, or it has no padding token or no fast (Rust) implementation.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise UserError(
            f"{folder}: no readable tokenizer ({_first_line(error)}); save one beside the model with "
            "`tokenizer.save_pretrained`"
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_tokens):
        raise UserError(f"{folder}: has no tokenizer files; save one beside the model with `tokenizer.save_pretrained`")
    if not tokenizer.is_fast:
        raise UserError(f"{folder}: its tokenizer has no fast version; convert it to a tokenizer.json first")
    if tokenizer.pad_token_id is None:
        raise UserError(f"{folder}: its tokenizer has no padding token; encoders such as BERT have one")
    for how_it_was_found in ("is_local", "local_files_only"):  # transformers would write it down with the tokenizer
        tokenizer.init_kwargs.pop(how_it_was_found, None)
    _as_the_encoder_takes(tokenizer, load_config(folder))
    return tokenizer


def read_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every weight of a model folder by name: safetensors (also in shards), else PyTorch's own format.

    Raises:
        UserError: no weights, or not readable.
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
            raise UserError(f"{file}: refused, it holds more than weights; use a safetensors checkpoint") from error
    return weights


def write_weights(weights: dict[str, torch.Tensor], folder: Path) -> None:
    """Write weights as one safetensors file; tensors that share memory are written out each."""
    separate = {name: value.detach().cpu().clone().contiguous() for name, value in weights.items()}
    save_file(separate, folder / WEIGHTS, metadata={"format": "pt"})


def longest_input(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, wanted: int) -> int:
    """Most tokens an input may have: what is wanted, what the positions allow, what the tokenizer says.

    RoBERTa and its many relatives number positions from behind the padding index, which their position embeddings
    know: so many of their rows cannot be used.
    """
    limits = [wanted, tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or wanted]
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            limits.append(module.weight.shape[0] - module.padding_idx - 1)
    return int(min(limits))


def _as_the_encoder_takes(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """Have the tokenizer give token types to encoders that tell the texts of a pair apart by them, and to no others.

    Tokenizer classes do not know: transformers' of ALBERT gives none to an encoder with two, and BERT's gives two to
    encoders with one, or none. What is set here is saved with the tokenizer.
    """
    given = _TYPES in tokenizer.model_input_names
    types = getattr(config, "type_vocab_size", None)
    if types is not None:
        taken = types > 1
    else:
        encoders = AutoModel._model_mapping.get(type(config), ())
        several = encoders if isinstance(encoders, tuple) else (encoders,)  # Funnel has two
        taken = given and any(_TYPES in signature(encoder.forward).parameters for encoder in several)
    if taken != given:
        others = [name for name in tokenizer.model_input_names if name != _TYPES]
        tokenizer.model_input_names = tokenizer.init_kwargs["model_input_names"] = others + [_TYPES] * taken


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
                raise UserError(f"{index}: no readable index of weight files: {_first_line(error)}") from error
            missing = [shard for shard in shards if Path(shard).name != shard or not (folder / shard).is_file()]
            if missing:
                raise UserError(f"{folder}: weight file {missing[0]} is missing; fetch the checkpoint again")
            return [folder / shard for shard in shards]
    raise UserError(f"{folder}: has no weights; expected {WEIGHTS} or pytorch_model.bin beside config.json")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
