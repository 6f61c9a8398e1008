"""How far a pipeline is, read from storage alone, and how much work is left."""

from __future__ import annotations

from typing import Any

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import one_line
from ftjobs.execution.heartbeat import signs
from ftjobs.jobfile.fields import OBJECTIVE_FIGURES, Adapt, Classify, Corpus, Data
from ftjobs.plan import StageRun
from ftjobs.storage import Storage

#: A machine that has not given a sign of life for this long has probably vanished; six signs are missing.
_SECONDS_TO_SILENCE = 60.0


def states(runs: list[StageRun], storage: Storage) -> list[dict[str, Any]]:
    """Per stage and seed: how it is, and what it waits for or what came of it.

    `state` is `published`, with its `result` in words and its `accuracy` or `perplexity`; `running`, with what its
    last sign of life says (`life.signs`); `failed`, with its `error`; `ready`, where all it reads is published; or
    `waiting`.
    """
    manifests = {run.key: artifacts.find(storage, run) for run in runs}
    found = []
    for run in runs:
        missing = sorted({read.title for read in run.inputs.values() if manifests[read.key] is None})
        manifest = manifests[run.key]
        sign = {"state": "none"} if manifest else signs(storage, run)
        state = "published" if manifest else sign.pop("state")
        if state == "none":
            state = "waiting" if missing else "ready"
        found.append(
            {
                "stage": run.stage,
                "seed": run.seed if run.has_seed else None,
                "state": state,
                "waits_for": missing if state == "waiting" else [],
                "identity": run.identity[:12],
                "result": summary(manifest) if manifest else None,
                "accuracy": manifest.metrics.get("accuracy") if manifest else None,
                "perplexity": manifest.metrics.get("best", {}).get("perplexity") if manifest else None,
                **({} if manifest else {key: value for key, value in sign.items() if key != "state"}),
            }
        )
    return found


def describe(row: dict[str, Any]) -> str:
    """One of the `states` in words: its result, how far it is, what it waits for, or why it failed."""
    match row["state"]:
        case "published":
            return str(row["result"])
        case "running":
            steps = f"step {row['step']:,} of {row['total']:,}, " if row["total"] else ""
            return f"{steps}last sign of life {row['age']:.0f} s ago"
        case "failed":
            return one_line(row["error"].partition("\n")[0])
        case "waiting":
            return f"for {', '.join(row['waits_for'])}"
    return "-"


def is_silent(row: dict[str, Any]) -> bool:
    """Whether a running stage has not been heard of for a minute: its machine may have vanished."""
    age: float = row["age"]
    return age > _SECONDS_TO_SILENCE


def remaining(row: dict[str, Any]) -> float | None:
    """Seconds that a running stage's training steps still take at its rate; None if that is not known."""
    if not row["rate"] or not row["total"] or is_silent(row):
        return None
    left: float = (row["total"] - row["step"]) / row["rate"] - row["age"]
    return max(0.0, left)


def work(run: StageRun, prepared: Manifest | None) -> str:
    """How much a stage has to do: optimizer steps once the data that it works on is `prepared`, epochs before that."""
    settings = run.settings
    if not isinstance(settings, Adapt | Classify):
        return "-"
    epochs = f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}"
    if prepared is None:
        return epochs
    if isinstance(settings, Adapt) and isinstance(settings.corpus, Corpus):  # only the encoder tells how many examples
        return f"{epochs} of {prepared.metrics['train']:,} passages"
    rows: dict[str, int] = prepared.metrics["rows"]
    examples = rows["train"]
    if isinstance(settings, Adapt):
        columns = Data.model_validate(prepared.settings["data"]).text_columns
        examples = len(columns) * (rows["train"] if settings.corpus == "train" else sum(rows.values()))
        if settings.objective in ("mlm+nsp", "mlm+sop"):  # how many pairs they make, only their sentences say
            return f"{epochs} on {examples:,} texts"
    per_step = settings.per_device_batch_size * settings.gradient_accumulation_steps
    return f"{settings.epochs * -(-examples // per_step):,} steps on {examples:,} texts"


def summary(manifest: Manifest) -> str:
    """What came out of a stage, in a few words."""
    metrics = manifest.metrics
    if manifest.kind == "classify" and "mse" in metrics:
        return (
            f"mean squared error {_figure(metrics['mse'], '.4g')}, Pearson {_figure(metrics['pearson'], '.4f')} in "
            f"epoch {metrics['best_epoch']}"
        )
    if manifest.kind == "classify":
        return f"accuracy {_figure(metrics['accuracy'], '.4f')} in epoch {metrics['best_epoch']}"
    if manifest.kind == "adapt":
        before, best = metrics["before"]["perplexity"], metrics["best"]["perplexity"]
        said = [f"perplexity {_figure(before, '.1f')} -> {_figure(best, '.1f')}"]
        for name in (name for name in OBJECTIVE_FIGURES if name in metrics["before"]):
            before, best = (_figure(metrics[when][name], ".4f") for when in ("before", "best"))
            said.append(f"{name.replace('_', ' ')} {before} -> {best}")
        return ", ".join(said)
    if manifest.kind == "corpus":
        dropped = sum(metrics[name] for name in ("empty", "contaminated", "exact_duplicates", "near_duplicates"))
        return f"{metrics['train']:,} passages, {metrics['held_out']:,} held out, {dropped:,} dropped"
    return f"{manifest.size:,} bytes"


def _figure(value: float | None, form: str) -> str:
    return "not finite" if value is None else format(value, form)  # JSON has null for what is not finite
