"""The readable part of a card, section by section. Each returns Markdown; nothing in it is more than was measured."""

from __future__ import annotations

import json
from typing import Any

from ftjobs.cards import corpora, figures, how, recipe
from ftjobs.cards.limits import limitations
from ftjobs.cards.made import Made
from ftjobs.cards.markdown import code, fenced, listed, table
from ftjobs.jobfile.fields import OBJECTIVE_FIGURES, Adapt, Classify
from ftjobs.plan import StageRun

_LIBRARIES = ("ftjobs", "transformers", "torch", "tokenizers", "python")
#: Settings that change no result, or stand elsewhere in the card.
_NO_HYPERPARAMETERS = {"encoder", "kind", "save_every", "data"}
_MOST_CLASSES = 30
_MOMENTS = ("min", "median", "max", "mean", "sd")
#: The line that says which model to load; it is another one on the hub.
HERE = 'model = "."  # this folder'


def body(made: Made) -> str:
    """Everything below the metadata."""
    sections = [f"# {made.name}", _summary(made), "## How to use it", _usage(made)]
    if made.run.kind != "prepare":
        sections += ["## Results", _classified(made) if made.run.kind == "classify" else _adapted(made)]
        sections += ["## Limitations", "\n".join(f"- {limit}" for limit in limitations(made))]
        sections += ["## Training data", _data(made), "## Training", _training(made)]
    sections += ["## Lineage", _lineage(made)]
    return "\n\n".join(sections) + "\n"


def for_hub(card: str, repo: str) -> str:
    """The text of a card as it is right on the hub, where the model is loaded by the repository's name."""
    return card.replace(f"\n{HERE}\n", f'\nmodel = "{repo}"\n', 1)


def _summary(made: Made) -> str:
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


def _usage(made: Made) -> str:
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


def _classified(made: Made) -> str:
    settings, metrics = made.run.settings, made.metrics
    assert isinstance(settings, Classify)
    chosen = metrics["selected_on"]
    header = [f"on {made.data['rows']['test']:,} test rows", "best epoch", "95 % interval", "last epoch"]
    kind = "a bootstrap's over test rows" if made.label_type == "float" else "Wilson's for a proportion"
    return (
        f"{table(header, figures.rows(made))}\n\nThe published weights are those of epoch {metrics['best_epoch']} of "
        f"{_epochs(made)}, the first with the {figures.BEST[settings.metric_for_best]} on the {chosen} split "
        f"({made.data['rows'][chosen]:,} rows). The interval is {kind}; it says what another draw of test rows would "
        "change, not what another seed would."
    )


def _adapted(made: Made) -> str:
    before, best, last = (made.metrics[name] for name in ("before", "best", "last"))
    shown = table(
        [corpora.measured_on(made), "before", "after (best epoch)", "last epoch"],
        [
            ["perplexity", *(f"{one['perplexity']:.2f}" for one in (before, best, last))],
            ["masked tokens guessed right", *(figures.percent(one["accuracy"]) for one in (before, best, last))],
            *(
                [name, *(figures.percent(one[key]) for one in (before, best, last))]
                for key, name in OBJECTIVE_FIGURES.items()
                if key in before
            ),
            *corpora.on_the_task(made),
        ],
    )
    whose = " is that of the generator, which lies in the folder `generator`;" if made.finds_replaced else ","
    loss = "loss of the whole objective" if "objective_loss" in before else "loss"
    return (
        f"{shown}\n\nPerplexity of the masked tokens{whose} with the same masks before and after. The published "
        f"weights are those of epoch {made.metrics['best_epoch']} of {_epochs(made)}, the first with the lowest {loss} "
        f"on them.{_new_words(made.metrics)}"
    )


def _new_words(metrics: dict[str, Any]) -> str:
    """What was added to the tokenizer, if anything was."""
    if "vocabulary" not in metrics:
        return ""
    added = metrics["vocabulary"]
    (old, new), (before, best) = added["pieces_per_word"], added["bits_per_character"]
    return (
        f"\n\n{added['words']:,} words of the domain were added to the tokenizer, which has {added['tokens'][1]:,} "
        f"tokens now: words of these texts are of {new:.3f} pieces, and were of {old:.3f}. Perplexity is per token, so "
        "it cannot be compared with that of an encoder of another vocabulary; bits per character can: "
        f"{before:.3f} before, with the new words in, and {best:.3f} after."
    )


def _epochs(made: Made) -> str:
    """How many there were: `8`, or `5 (of 8, by early stopping)`."""
    settings = made.run.settings
    assert isinstance(settings, Adapt | Classify)
    run = made.metrics.get("epochs_run", settings.epochs)
    return str(run) if run == settings.epochs else f"{run} (of {settings.epochs}, by early stopping)"


def _data(made: Made) -> str:
    data = made.data
    splits = list(data["rows"])
    rows = [["all", *(f"{data['rows'][split]:,}" for split in splits)]]
    if made.label_type == "float":
        rows += [[f"{name} label", *(f"{data['labels'][split][name]:.4g}" for split in splits)] for name in _MOMENTS]
        return f"{_provenance(data['provenance'])}\n\n{table(['rows', *splits], rows)}\n\n{_division(data)}"
    for name in made.classes[:_MOST_CLASSES]:
        rows.append([code(name), *(f"{data['labels'][split][name]:,}" for split in splits)])
    counts = table(["rows", *splits], rows)
    if len(made.classes) > _MOST_CLASSES:
        counts += f"\n\nand {len(made.classes) - _MOST_CLASSES} classes more."
    text = f"{_provenance(data['provenance'])}\n\n{counts}\n\n{_division(data)}"
    return (
        text if made.corpus is None else f"{corpora.section(made)}\n\nThe task's data, not trained on here:\n\n{text}"
    )


def _provenance(provenance: dict[str, Any]) -> str:
    if "hub_id" in provenance:
        config = f", configuration {code(provenance['config'])}" if provenance["config"] else ""
        revision, commit = code(provenance["revision"]), code(provenance["commit"])
        return f"{code(provenance['hub_id'])} from the Hugging Face hub{config}, revision {revision}, commit {commit}."
    files = [
        [code(one["name"]), one["split"], f"{one['bytes']:,}", f"`{one['sha256']}`"] for one in provenance["files"]
    ]
    return table(["file", "read as", "bytes", "sha256"], files)


def _division(data: dict[str, Any]) -> str:
    settings, said = data["split"], []
    for split in ("test", "validation"):
        if settings[f"{split}_fraction"] is not None:
            said.append(f"{settings[f'{split}_fraction']:g} of the rows held out for {split}")
        elif split in data["rows"]:
            said.append(f"the source's own {split} split")
    if any(settings[f"{split}_fraction"] is not None for split in ("test", "validation")):
        said.append(f"shuffled with seed {settings['seed']}")
    grouped = settings["group_by"]
    if grouped == "connected":
        said.append("rows that share a text on one side")
    elif grouped:
        said.append(f"rows with the same {code(grouped)} on one side")
    leaked = data["overlap"]["test"]
    return (
        f"Split: {', '.join(said)}. Of the {leaked['rows']:,} test rows, {leaked['rows_in_training']:,} have a text "
        f"that also stands in training ({leaked['texts_in_training']:,} of {leaked['texts']:,} distinct test texts)."
    )


def _training(made: Made) -> str:
    without = _NO_HYPERPARAMETERS if made.corpus is None else _NO_HYPERPARAMETERS | {"corpus"}
    settings = made.run.settings.model_dump(mode="json", exclude=without)
    rows = [[f"`{name}`", _said(value)] for name, value in {**settings, "seed": made.run.seed}.items()]
    text = table(["hyperparameter", "value"], rows)
    if made.metrics["newly_initialised"]:
        text += f"\n\nNewly initialised, because the encoder brought none: {listed(made.metrics['newly_initialised'])}."
    if "class_weights" in made.metrics:
        weights = made.metrics["class_weights"]
        heaviest = sorted(weights, key=lambda name: -weights[name])[:_MOST_CLASSES]
        shown = ", ".join(f"{code(name)} {weights[name]:.3g}" for name in heaviest)
        text += f"\n\nAn example's weight in the training loss, by its class: {shown}; evaluation is unweighted."
    if "parameters" in made.metrics:
        text += f"\n\n{how.counted(made.metrics['parameters'], low_rank=settings['lora'] is not None)}"
    return f"AdamW, evaluation in fp32.\n\n{text}"


def _said(value: Any) -> str:
    """A setting as the job file says it: `false`, `1e-08`; names in it are foreign."""
    return code(json.dumps(value, ensure_ascii=False)) if isinstance(value, dict) else f"`{str(value).lower()}`"


def _lineage(made: Made) -> str:
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
