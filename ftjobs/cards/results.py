"""What a card says of how good a checkpoint is."""

from __future__ import annotations

from typing import Any

from ftjobs.cards import corpora, figures
from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import table
from ftjobs.jobfile.fields import OBJECTIVE_FIGURES, Adapt, Classify


def classified(made: CardContext) -> str:
    """Of a `classify` stage: its metrics on the test rows, with an interval."""
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


def adapted(made: CardContext) -> str:
    """Of an `adapt` stage: how well held-out text is guessed, before and after."""
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


def _epochs(made: CardContext) -> str:
    """How many there were: `8`, or `5 (of 8, by early stopping)`."""
    settings = made.run.settings
    assert isinstance(settings, Adapt | Classify)
    run = made.metrics.get("epochs_run", settings.epochs)
    return str(run) if run == settings.epochs else f"{run} (of {settings.epochs}, by early stopping)"
