"""How the report opens: the answer in plain words, with its uncertainty, and the model to ship."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.measures import measure
from ftjobs.reporting.text.blocks import Block, Command, Prose
from ftjobs.reporting.text.phrases import code, count, listed, p_sentence, roughly
from ftjobs.tasks import get_task

#: Comparisons that a headline names one by one.
_NAMED = 3
_PREDICATES = {"supported": "pays", "undecided": "is undecided", "contradicted": "does not pay"}


def headline(content: dict[str, Any]) -> str:
    """The answer in one line."""
    contrasts = content["does_adapting_pay"]
    if not contrasts:
        return _headline_without_contrast(content)
    what = "the intermediate task" if all("intermediate" in one for one in contrasts) else "adapting"
    groups = {verdict: [one for one in contrasts if one["verdict"] == verdict] for verdict in _PREDICATES}
    groups = {verdict: found for verdict, found in groups.items() if found}
    if len(groups) == 1:
        verdict = next(iter(groups))
        if verdict == "undecided":
            return f"Whether {what} pays is undecided"
        return f"{_capital(what)} {_PREDICATES[verdict]}{_by(content, contrasts)}"
    if len(contrasts) > _NAMED:
        parts = [f"{_PREDICATES[verdict]} in {len(found)}" for verdict, found in groups.items()]
        return f"Of {len(contrasts)} comparisons, {what} {listed(parts)}"
    parts = [
        f"{_PREDICATES[verdict]} over {listed([code(x['worse']) for x in found])}" for verdict, found in groups.items()
    ]
    return f"{_capital(what)} {listed(parts)}"


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def lead(content: dict[str, Any]) -> list[str]:
    """What the headline rests on: a paragraph for each comparison that asks whether adapting pays."""
    figures = {row["stage"]: row[measure(content).key]["mean"] for row in content["results"]}
    paragraphs = [_contrast(content, one, figures) for one in content["does_adapting_pay"][:_NAMED]]
    more = len(content["does_adapting_pay"]) - _NAMED
    if more > 0:
        paragraphs.append(f"{count(more, 'more comparison')} of this kind: see Hypotheses, or `report.json`.")
    if not content["does_adapting_pay"]:
        paragraphs += _lead_without_contrast(content)
    return paragraphs


def ship(content: dict[str, Any]) -> list[Block]:
    """Which checkpoint to ship, why this one, and the command that fetches it."""
    chosen = content["to_ship"]
    name = f"{code(chosen['stage'])}, seed {chosen['seed']}"
    pull = Command([f'ftjobs pull "${{FTJOBS_STORE:-runs}}/{chosen["artifact"]}" {chosen["stage"]}'])
    if chosen["kind"] == "encoder":
        texts = f"the held-out texts of the {chosen['chosen_on']} split"
        lowest = f"the lowest loss on {texts} ({chosen['loss']:.3f}, "
        if "bits_per_character" in chosen:
            lowest = f"the fewest bits per character on {texts} ({chosen['bits_per_character']:.3f}, "
        text = f"**Take {name}:** {lowest}perplexity {chosen['perplexity']:.1f})."
        return [Prose(text), pull]
    if chosen["kind"] == "classifier of its own data":
        own = get_task(chosen["label_type"]).measure
        return [Prose(f"**Take {name}.** It {own.level(chosen[own.key])} of its own data."), pull]
    what = f"**Ship {name}.** {measure(content).level_strong(chosen[measure(content).key], chosen['interval'])}"
    return [Prose(what), Prose(f"{_how_chosen(content, chosen)} {_level(content, chosen)}"), pull]


def needed(estimate: dict[str, Any] | None) -> str:
    """How much more evidence would likely decide a hypothesis: part of a sentence, empty where nothing is known."""
    if estimate is None:
        return ""
    parts = []
    if estimate["more_seeds"] is not None:
        parts.append(count(roughly(estimate["more_seeds"]), "more seed"))
    if estimate["more_examples"] is not None:
        parts.append(count(roughly(estimate["more_examples"]), "more test row"))
    return f"about {' or '.join(parts)}" if parts else ""


def _by(content: dict[str, Any], contrasts: list[dict[str, Any]]) -> str:
    """The size of the effect, or of several the range that they span."""
    low, high = (f(one["difference"] for one in contrasts) for f in (min, max))
    return f": {measure(content).gain(low, high)}"


def _contrast(content: dict[str, Any], one: dict[str, Any], figures: dict[str, float]) -> str:
    by = measure(content)
    better, worse = code(one["better"]), code(one["worse"])
    margin = f" by more than {by.amount(one['margin'])}" if one["margin"] else ""
    said = {
        "supported": f"**{better} beats {worse}{margin}**",
        "contradicted": f"**{better} does not beat {worse}{margin}**",
        "undecided": f"**It is open whether {better} beats {worse}{margin}**",
    }[one["verdict"]]
    text = (
        f"{said}: {by.against(figures[one['better']], figures[one['worse']], one['difference'])} (95 % interval "
        f"{by.difference_interval(*one['interval'])}; {p_sentence(one['adjusted_p_value'])})."
    )
    if estimate := needed(one["needed"]):
        text += f" To decide it would likely take {estimate}."
    if len(content["seeds"]) == 1:
        text += " With one seed this is about these two trained models only, not about the two ways of training."
    if one["also_differ_in"]:
        text += f" The two also differ in {listed([code(key) for key in one['also_differ_in']])}."
    if not one["stated"]:
        text += " The job did not state this as a hypothesis."
    return text


def _headline_without_contrast(content: dict[str, Any]) -> str:
    if not content["results"] and not content["adaptation"]:
        best = content["intermediate"][0]
        own = get_task(best["label_type"]).measure
        return f"{code(best['stage'])} {own.level(best[own.key]['mean'], 1)} of its own data"
    if not content["results"]:
        best = next(row for row in content["adaptation"] if row["stage"] == content["to_ship"]["stage"])
        measured = best["task"] or best
        before, after = measured["before"]["perplexity"], measured["after"]["perplexity"]["mean"]
        return f"Adapting takes perplexity on held-out text from {before:,.1f} to {after:,.1f}"
    best = next(row for row in content["results"] if row["stage"] == content["to_ship"]["stage"])
    return f"{code(best['stage'])} {measure(content).level(best[measure(content).key]['mean'], 1)}"


def _lead_without_contrast(content: dict[str, Any]) -> list[str]:
    if not content["results"] and not content["adaptation"]:
        return ["Every stage of this job has data of its own, so there is nothing to compare on the job's data."]
    if not content["results"]:
        return [
            "This job has no labels: it says how well the encoder knows the domain's texts, and not whether that helps "
            "a classifier. Give the data a `label` and the job `classify` stages to find out."
        ]
    text = "This job does not ask whether adapting pays: that takes two `classify` stages that train alike, one on the "
    return [f"{text}encoder as it comes, one on the encoder of an `adapt` stage."]


def _how_chosen(content: dict[str, Any], chosen: dict[str, Any]) -> str:
    split = chosen["chosen_on"]
    several, by = len(content["results"]) > 1, measure(content)
    stage, seed = (chosen[f"selection_{by.key}"][of] for of in ("stage", "seed"))
    reasons = []
    if several:
        extreme = "lowest" if by.minimize else "highest"
        mean = f"{extreme} mean over seeds" if len(content["seeds"]) > 1 else extreme
        reasons.append(f"of all strategies it has the {mean} ({by.with_unit(stage)})")
    if len(content["seeds"]) > 1:
        reasons.append(f"of its seeds seed {chosen['seed']} is best ({by.with_unit(seed)})")
    if not reasons:
        return "It is the only one."
    said = f"Chosen by {by.name} on the {split} split: {', '.join(reasons)}."
    if split == "test":
        return f"{said} There is no validation split, so **the test rows chose it and its figure flatters it.**"
    return f"{said} The test rows had no say."


def _level(content: dict[str, Any], chosen: dict[str, Any]) -> str:
    if len(content["results"]) == 1:
        return ""
    level, by = chosen["level_with"], measure(content)
    if not level:
        return "No other strategy is level with it: the 95 % interval of every difference excludes zero."
    named = [
        f"{code(one['stage'])} ({by.difference(one['difference'])}, {by.difference_interval(*one['interval'])})"
        for one in level[:4]
    ]
    more = [f"{len(level) - 4} more"] if len(level) > 4 else []
    text = f"**The test rows cannot tell it from {listed(named + more)}.**"
    simplest = chosen["simplest_of_these"]
    if simplest != chosen["stage"]:
        (instead,) = [one for one in level if one["stage"] == simplest]
        cost = by.amount(instead["difference"]) if instead["difference"] > 0 else "nothing"
        return (
            f"{text} Of these {code(simplest)} is the simplest to train: to ship that one costs {cost} in these runs, "
            f"and may cost up to {by.figure(instead['interval'][1], 1)}."
        )
    return f"{text} Of these it is also the simplest to train."
