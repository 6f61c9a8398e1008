"""The readable part of a card, section by section. Each returns Markdown; nothing in it is more than was measured."""

from __future__ import annotations

import json
from typing import Any

from ftjobs.cards import corpora, data, figures, how, recipe, results
from ftjobs.cards.limits import limitations
from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code, fenced, listed, table
from ftjobs.jobfile.fields import Adapt, Classify, TrainingFields
from ftjobs.plan import StageRun

_LIBRARIES = ("ftjobs", "transformers", "torch", "tokenizers", "python")
#: Settings that change no result, or stand elsewhere in the card.
_NO_HYPERPARAMETERS = {"encoder", "kind", "save_every", "data"}
#: The line that says which model to load; it is another one on the hub.
HERE = 'model = "."  # this folder'


def body(made: CardContext) -> str:
    """Everything below the metadata."""
    sections = [f"# {made.name}", _summary(made), "## How to use it", _usage(made)]
    if made.run.kind != "prepare":
        sections += ["## Results", results.classified(made) if made.run.kind == "classify" else results.adapted(made)]
        sections += ["## Limitations", "\n".join(f"- {limit}" for limit in limitations(made))]
        sections += ["## Training data", data.section(made), "## Training", _training(made)]
    sections += ["## Lineage", _lineage(made)]
    return "\n\n".join(sections) + "\n"


def for_hub(card: str, repo: str) -> str:
    """The text of a card as it is right on the hub, where the model is loaded by the repository's name."""
    return card.replace(f"\n{HERE}\n", f'\nmodel = "{repo}"\n', 1)


def _summary(made: CardContext) -> str:
    base = _base(made.data["encoder"])
    if made.run.kind == "prepare":
        return f"The encoder that every stage of the pipeline `{made.run.pipeline}` starts from: {base}."
    texts = " and ".join(code(column) for column in made.data["text_columns"])
    settings = made.run.settings
    if isinstance(settings, Adapt):
        learned = f"the texts of {code(made.source)} ({texts})"
        learned = learned if made.corpus is None else f"the passages of {corpora.name(made)}"
        return (
            f"An encoder with its {_heads(settings)}, from {base}, adapted to {learned} by {how.adapted(settings)}"
            f"{how.besides(settings)}. It took no labels, and is meant to be fine-tuned."
        )
    assert isinstance(settings, Classify)
    trained = "its head trained on a frozen encoder" if settings.freeze_encoder else how.trained(settings)
    through = [run.stage for run in made.chain[1:-1]]
    went = f", by way of {' and '.join(f'`{stage}`' for stage in through)}" if through else ""
    return f"A {figures.what_for(made)}: {base}{went}, {trained} on {code(made.source)}."


def _heads(settings: Adapt) -> str:
    pairs = {"mlm+nsp": " and its next-sentence head", "mlm+sop": " and its sentence-order head"}
    if settings.objective == "replaced-token":
        return "replaced-token head"
    return f"masked-LM head{pairs.get(settings.objective, '')}"


def _base(origin: dict[str, Any]) -> str:
    """Where the encoder came from, in words."""
    if "model" in origin:
        return f"{code(origin['model'])} (commit {code(str(origin['commit']))})"
    if "folder" in origin:
        return f"the model folder {code(origin['folder'])} (weights with sha256 `{origin['sha256']}`)"
    return (
        f"a BERT with random weights and a vocabulary of {origin['vocabulary']:,} tokens made from the training texts"
    )


def _usage(made: CardContext) -> str:
    pair = len(made.data["text_columns"]) == 2
    if made.run.kind == "classify":
        several = "top_k=None, " if made.label_type == "multi" else ""
        example = '{"text": "A text.", "text_pair": "Another text."}' if pair else '"A text."'
        lines = [
            "from transformers import pipeline",
            "",
            HERE,
            'classifier = pipeline("text-classification", model=model)',
            f"print(classifier({example}, {several}truncation=True, max_length={made.metrics['max_length']}))",
        ]
    elif made.finds_replaced:
        lines = [
            "from transformers import AutoModelForPreTraining, AutoTokenizer",
            "",
            HERE,
            "electra, tokenizer = AutoModelForPreTraining.from_pretrained(model), AutoTokenizer.from_pretrained(model)",
            'print(electra(**tokenizer("A text.", return_tensors="pt")).logits)  # above 0: replaced, it says',
        ]
    elif made.run.kind == "adapt":
        lines = [
            "from transformers import pipeline",
            "",
            HERE,
            'fill_mask = pipeline("fill-mask", model=model)',
            'print(fill_mask(f"A text with a {fill_mask.tokenizer.mask_token} in it."))',
        ]
    else:
        lines = [
            "from transformers import AutoModel, AutoTokenizer",
            "",
            HERE,
            "encoder, tokenizer = AutoModel.from_pretrained(model), AutoTokenizer.from_pretrained(model)",
            'print(encoder(**tokenizer("A text.", return_tensors="pt")).last_hidden_state.shape)',
        ]
    return fenced("\n".join(lines), "python")


def _training(made: CardContext) -> str:
    without = _NO_HYPERPARAMETERS if made.corpus is None else _NO_HYPERPARAMETERS | {"corpus"}
    settings = made.run.settings.model_dump(mode="json", exclude=without)
    rows = [[f"`{name}`", _said(value)] for name, value in {**settings, "seed": made.run.seed}.items()]
    text = table(["hyperparameter", "value"], rows)
    if made.metrics["newly_initialised"]:
        text += f"\n\nNewly initialised, because the encoder brought none: {listed(made.metrics['newly_initialised'])}."
    if "class_weights" in made.metrics:
        weights = made.metrics["class_weights"]
        heaviest = sorted(weights, key=lambda name: -weights[name])[: data.MOST_CLASSES]
        shown = ", ".join(f"{code(name)} {weights[name]:.3g}" for name in heaviest)
        text += f"\n\nAn example's weight in the training loss, by its class: {shown}; evaluation is unweighted."
    if "parameters" in made.metrics:
        text += f"\n\n{how.counted(made.metrics['parameters'], low_rank=settings['lora'] is not None)}"
    return f"{_trained_on(made)}\n\n{text}"


def _trained_on(made: CardContext) -> str:
    """The device, and what several processes make of the batch: each stage of the lineage says so in its own card."""
    timing, settings = made.timing, made.run.settings
    assert isinstance(settings, TrainingFields), "nothing else is trained"
    precision = "fp32" if timing["mixed_precision"] == "no" else timing["mixed_precision"]
    text = f"AdamW in {precision} on `{timing['device']}`, evaluation in fp32."
    if timing["processes"] > 1:
        step = settings.per_device_batch_size * settings.gradient_accumulation_steps * timing["processes"]
        text += (
            f" It was trained on {timing['processes']} processes, {step:,} examples a step: to train it again, give "
            f"`--num-processes {timing['processes']}`."
        )
    return text


def _said(value: Any) -> str:
    """A setting as the job file says it: `false`, `1e-08`; names in it are foreign."""
    return code(json.dumps(value, ensure_ascii=False)) if isinstance(value, dict) else f"`{str(value).lower()}`"


def _lineage(made: CardContext) -> str:
    chain = made.chain
    rows = [
        [f"`{run.title}`", _does(run), f"`{run.identity}`", f"`{recipe.command(run)}`"]
        for run in recipe.with_data(chain)
    ]
    versions = ", ".join(f"{name} {made.environment[name]}" for name in _LIBRARIES if name in made.environment)
    return "\n\n".join(
        [
            table(["stage", "what it does", "identity", "command"], rows),
            f"Made with {versions}. The same stages as a job file, `{recipe.JOB}`; local files belong beside it:",
            fenced(recipe.job_text(chain), "yaml"),
        ]
    )


def _does(run: StageRun) -> str:
    if isinstance(run.settings, Adapt):
        return f"{how.adapted(run.settings)} on the texts{how.besides(run.settings)}"
    if isinstance(run.settings, Classify):
        return f"classification with the encoder {how.trained(run.settings)}"
    if run.kind == "corpus":
        return "the corpus, without repetitions and test texts"
    return "data, split" if run.kind == "data" else "encoder and data, split"
