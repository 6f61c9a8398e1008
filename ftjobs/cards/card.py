"""The model card `README.md`: sections of the template `templates/model_card.md.j2`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from ftjobs.cards import recipe
from ftjobs.cards.context import CardContext
from ftjobs.cards.markdown import code, fenced, listed, table
from ftjobs.cards.metadata import ModelInfo, card_data
from ftjobs.cards.sections import MAX_NAMES, corpus_name, limitations, results, training_data
from ftjobs.jobfile.fields import Adapt, Classify, TrainingFields
from ftjobs.models.checkpoints import CARD
from ftjobs.objectives import get_objective
from ftjobs.plan import StageRun

_LIBRARIES = ("ftjobs", "transformers", "torch", "tokenizers", "python")
#: Settings that change no result, or are in other sections.
_NO_HYPERPARAMETERS = {"encoder", "kind", "save_every", "data"}
#: The line of the usage example that names the model; `for_hub` replaces it.
_LOCAL_MODEL = 'model = "."  # this folder'


def write(
    run: StageRun, inputs: dict[str, Path], output: Path, metrics: dict[str, Any], environment: dict[str, str]
) -> None:
    """Write `README.md`, and for a trained model `ftjobs.json`, into the model folder of a finished stage.

    An encoder that comes with a card keeps it.

    Args:
        run: the stage.
        inputs: folders of the artifacts it read, by role.
        output: folder it filled.
        metrics: metrics it returned.
        environment: versions of the libraries that the result depends on.
    """
    context = CardContext.load(run, inputs, output, metrics, environment)
    if isinstance(run.settings, Adapt | Classify):
        label = context.data_settings.label
        has_separator = context.task.has_separator and isinstance(label, str)
        ModelInfo(
            pipeline=run.pipeline,
            stage=run.stage,
            kind=run.settings.kind,
            seed=run.seed,
            identity=run.identity,
            text_columns=context.data["text_columns"],
            label_column=label if isinstance(label, str) else None,
            label_columns=label if isinstance(label, list) else None,
            label_separator=context.data_settings.label_separator if has_separator else None,
            classes=context.names if run.kind == "classify" else [],
            max_length=metrics["max_length"],
        ).write(context.model)
    if not (context.model / CARD).exists():
        ModelCard(f"---\n{card_data(context).to_yaml()}\n---\n\n{render_card(context)}").save(context.model / CARD)


def for_hub(card: str, repo: str) -> str:
    """Return a card whose usage example loads the model from a repository of the hub."""
    return card.replace(f"\n{_LOCAL_MODEL}\n", f'\nmodel = "{repo}"\n', 1)


def render_card(context: CardContext) -> str:
    """Return the card below its metadata, as Markdown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(  # Markdown is not HTML: `markdown.code` escapes names
        loader=PackageLoader("ftjobs.cards"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections: dict[str, Any] = {"results": ""}
    if context.run.kind != "prepare":
        sections = {
            "results": results(context),
            "limitations": limitations(context),
            "training_data": training_data(context),
            "device": _device(context),
            "hyperparameters": _hyperparameters(context),
            "training_notes": _training_notes(context),
        }
    stages = recipe.with_data(context.chain)
    lineage = [[f"`{run.title}`", _purpose(run), f"`{run.identity}`", f"`{recipe.command(run)}`"] for run in stages]
    versions = [f"{name} {context.environment[name]}" for name in _LIBRARIES if name in context.environment]
    return (
        environment.get_template("model_card.md.j2").render(
            name=context.name,
            summary=_summary(context),
            usage=fenced("\n".join(_usage(context)), "python"),
            lineage=table(["stage", "purpose", "identity", "command"], lineage),
            versions=", ".join(versions),
            job_name=recipe.JOB,
            job=fenced(recipe.job_text(context.chain), "yaml"),
            **sections,
        )
        + "\n"
    )


def _summary(context: CardContext) -> str:
    base, settings = _origin(context.data["encoder"]), context.run.settings
    if context.run.kind == "prepare":
        return f"The encoder that every stage of the pipeline `{context.run.pipeline}` starts from: {base}."
    columns = [code(column) for column in context.data["text_columns"]]
    if isinstance(settings, Adapt):
        texts = f"the texts of {code(context.source)} ({' and '.join(columns)})"
        texts = texts if context.corpus is None else f"the passages of {corpus_name(context)}"
        return (
            f"An encoder with its {get_objective(settings.objective).heads}, from {base}, adapted to {texts} by "
            f"{_adaptation(settings)}. Training used no labels; fine-tune the encoder on a task."
        )
    assert isinstance(settings, Classify)
    inputs = f"{'pairs of texts' if len(columns) == 2 else 'texts'} ({' and '.join(columns)})"
    purpose = context.task.card_purpose(inputs, context.names, lambda names: listed(list(names)))
    through = [f"`{run.stage}`" for run in context.chain[1:-1]]
    via = f", by way of {' and '.join(through)}" if through else ""
    trained = "frozen, with a head trained" if settings.freeze_encoder else _encoder_training(settings)
    return f"A {purpose}: {base}{via}, {trained} on {code(context.source)}."


def _origin(encoder: dict[str, Any]) -> str:
    """Return the origin of the encoder, from `data.json`."""
    if "model" in encoder:
        return f"{code(encoder['model'])} (commit {code(str(encoder['commit']))})"
    if "folder" in encoder:
        return f"the model folder {code(encoder['folder'])} (sha256 of the weights `{encoder['sha256']}`)"
    return f"a BERT with random weights and a vocabulary of {encoder['vocabulary']:,} tokens from the training texts"


def _usage(context: CardContext) -> list[str]:
    """Return a Python example that loads and runs the model."""
    if context.run.kind == "classify":
        is_pair = len(context.data["text_columns"]) == 2
        example = '{"text": "A text.", "text_pair": "Another text."}' if is_pair else '"A text."'
        arguments = {**context.task.pipeline_arguments, "truncation": True, "max_length": context.metrics["max_length"]}
        listed_arguments = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        return [
            *("from transformers import pipeline", "", _LOCAL_MODEL),
            f'classifier = pipeline("{context.task.hub_task}", model=model)',
            f"print(classifier({example}, {listed_arguments}))",
        ]
    if context.objective is not None:
        return context.objective.usage(_LOCAL_MODEL)
    return [
        *("from transformers import AutoModel, AutoTokenizer", "", _LOCAL_MODEL),
        "encoder, tokenizer = AutoModel.from_pretrained(model), AutoTokenizer.from_pretrained(model)",
        'print(encoder(**tokenizer("A text.", return_tensors="pt")).last_hidden_state.shape)',
    ]


def _device(context: CardContext) -> str:
    """Return optimizer, precision, device and, for several processes, the examples per step."""
    timing, settings = context.timing, context.run.settings
    assert isinstance(settings, TrainingFields), "other stages do not train"
    precision = "fp32" if timing["mixed_precision"] == "no" else timing["mixed_precision"]
    text = f"AdamW in {precision} on `{timing['device']}`, evaluation in fp32."
    if timing["processes"] > 1:
        examples = settings.per_device_batch_size * settings.gradient_accumulation_steps * timing["processes"]
        text += (
            f" Trained on {timing['processes']} processes, {examples:,} examples per step; to reproduce, run with "
            f"`--num-processes {timing['processes']}`."
        )
    return text


def _hyperparameters(context: CardContext) -> str:
    hidden = _NO_HYPERPARAMETERS if context.corpus is None else _NO_HYPERPARAMETERS | {"corpus"}
    settings = context.run.settings.model_dump(mode="json", exclude=hidden)
    rows = [[f"`{name}`", _setting(value)] for name, value in {**settings, "seed": context.run.seed}.items()]
    return table(["hyperparameter", "value"], rows)


def _setting(value: Any) -> str:
    """Return a value as job files write it: `false`, `1e-08`. Names in mappings come from the data."""
    return code(json.dumps(value, ensure_ascii=False)) if isinstance(value, dict) else f"`{str(value).lower()}`"


def _training_notes(context: CardContext) -> list[str]:
    """Return notes on new parameters, class weights and the number of trained parameters."""
    metrics, settings = context.metrics, context.run.settings
    assert isinstance(settings, Adapt | Classify)
    notes = []
    if metrics["newly_initialised"]:
        notes.append(
            f"Newly initialized weights, absent from the encoder's checkpoint: {listed(metrics['newly_initialised'])}."
        )
    if weights := metrics.get("class_weights"):
        heaviest = sorted(weights, key=lambda name: -weights[name])[:MAX_NAMES]
        shown = ", ".join(f"{code(name)} {weights[name]:.3g}" for name in heaviest)
        notes.append(f"Class weights in the training loss: {shown}. Evaluation is unweighted.")
    if parameters := metrics.get("parameters"):
        merged = ""
        if settings.lora is not None:
            merged = ", those of low-rank adapters and new ones; the adapters are merged into the model"
        notes.append(f"Trained {parameters['trained']:,} of {parameters['all']:,} parameters{merged}.")
    return notes


def _purpose(run: StageRun) -> str:
    """Return the purpose of a stage, for the table of the lineage."""
    if isinstance(run.settings, Adapt):
        return f"{_adaptation(run.settings)} on the texts"
    if isinstance(run.settings, Classify):
        return f"classification, encoder {_encoder_training(run.settings)}"
    return {
        "corpus": "corpus without duplicates and test texts",
        "data": "data splits",
    }.get(run.kind, "encoder and data splits")


def _adaptation(settings: Adapt) -> str:
    """Return a phrase such as `masked language modeling of whole words through LoRA of rank 8`."""
    through = f" through {settings.lora}" if settings.lora is not None else ""
    words = ", with words of the domain added to the tokenizer" if settings.vocabulary is not None else ""
    return f"{get_objective(settings.objective).describe(settings)}{through}{words}"


def _encoder_training(settings: Classify) -> str:
    """Return a participle phrase such as `frozen`, `fine-tuned` or `fine-tuned in its top 2 layers`."""
    if settings.freeze_encoder:
        return "frozen"
    if settings.lora is not None:
        return f"fine-tuned through {settings.lora}"
    phrase = "fine-tuned"
    if settings.unfreeze == "gradual":
        phrase += " from the top, one more layer in each epoch"
    elif settings.unfreeze != "all":
        phrase += f" in its {_top_layers(int(settings.unfreeze.removeprefix('last-')))}"
    if settings.reinitialise_layers:
        phrase += f", after reinitialization of the {_top_layers(settings.reinitialise_layers)}"
    return phrase


def _top_layers(count: int) -> str:
    return f"top {count} layers" if count > 1 else "top layer"
