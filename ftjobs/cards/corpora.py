"""What a card says of the corpus that an encoder was adapted to: Markdown."""

from __future__ import annotations

from typing import Any

from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code, table
from ftjobs.jobfile.fields import Adapt, Corpus

_EXAMPLE = {
    "sentence": "a sentence",
    "document": "a passage",
    "packed": "as many passages as fit, the last one cut",
    "pairs": "a pair of segments",
}


def name(made: CardContext) -> str:
    """What the encoder was adapted to: the first source of its corpus, and how many more there are."""
    assert made.corpus is not None
    sources = [str(one.get("hub_id") or one["name"]) for one in made.corpus["provenance"]]
    more = f" and {len(sources) - 1:,} more" if len(sources) > 1 else ""
    return f"{code(sources[0])}{more}"


def measured_on(made: CardContext) -> str:
    """The texts that the figures of an adaptation are of."""
    split = made.metrics["evaluated_on"]
    return f"on the texts of the {split} split" if made.corpus is None else "on passages held out of its corpus"


def on_the_task(made: CardContext) -> list[list[str]]:
    """A row of perplexity on the task's texts, if it was measured beside."""
    found = [made.metrics[name].get("task_perplexity") for name in ("before", "best", "last")]
    return [] if None in found else [["perplexity on the task's texts", *(f"{one:.2f}" for one in found)]]


def section(made: CardContext) -> str:
    """Where it came from, what was dropped, what is held out, what an example is."""
    found, settings = made.corpus, made.run.settings
    assert found is not None
    assert isinstance(settings, Adapt)
    assert isinstance(settings.corpus, Corpus)
    used = made.metrics["corpus"]
    counts: list[tuple[str, int | str]] = [
        ("passages read", found["read"]),
        ("without words", found["empty"]),
        ("hold a test or validation text", found["contaminated"] if made.decontaminated else "not looked for"),
        ("repeat others exactly", found["exact_duplicates"]),
        ("repeat others nearly", found["near_duplicates"]),
        ("held out, to measure perplexity on", found["held_out"]),
        ("trained on", found["train"]),
    ]
    rows = [[what, f"{count:,}" if isinstance(count, int) else count] for what, count in counts]
    apart = ", without attention between them" if settings.corpus.isolate else ""
    return "\n\n".join(
        [
            f"A corpus of its own, without labels:\n\n{_sources(found['provenance'])}",
            table(["passages", ""], rows),
            f"An example is {_EXAMPLE[used['unit']]}{apart}; {used['tokens_seen']:,} tokens were seen in training, "
            f"{made.metrics['tokens']:,} in an epoch.",
        ]
    )


def _sources(provenance: list[dict[str, Any]]) -> str:
    rows = [
        [code(one["hub_id"]), f"commit `{one['commit']}`"]
        if "hub_id" in one
        else [code(one["name"]), f"{one['bytes']:,} bytes, sha256 `{one['sha256']}`"]
        for one in provenance[:30]
    ]
    more = f"\n\nand {len(provenance) - len(rows):,} more." if len(provenance) > len(rows) else ""
    return table(["source", "version"], rows) + more
