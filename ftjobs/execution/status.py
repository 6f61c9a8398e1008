"""State of a pipeline's stages, read from storage alone, and the work that remains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from ftjobs import artifacts
from ftjobs.artifacts import Manifest
from ftjobs.errors import one_line
from ftjobs.execution.heartbeat import FailedAttempt, RunningAttempt, latest_attempt
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, Data
from ftjobs.objectives import all_figures, get_objective
from ftjobs.plan import StageRun
from ftjobs.storage import Storage
from ftjobs.tasks import all_tasks

#: A stage without a heartbeat for this long, six intervals, is reported as stale: its node may have disappeared.
STALE_AFTER_SECONDS = 60.0


@dataclass(frozen=True)
class StageStatus:
    """State of one stage with one seed."""

    stage: str
    seed: int | None
    """None for stages that run once for all seeds."""
    state: Literal["published", "running", "failed", "ready", "waiting"]
    """`ready`: all inputs are published; `waiting`: some are not."""
    waits_for: list[str]
    """Titles of the inputs that are not published, if `waiting`."""
    identity: str
    """First 12 characters."""
    result: str | None = None
    """Summary of a published result."""
    accuracy: float | None = None
    perplexity: float | None = None
    running: RunningAttempt | None = None
    failed: FailedAttempt | None = None

    @property
    def title(self) -> str:
        """The stage with its seed: `head seed 42`."""
        return self.stage if self.seed is None else f"{self.stage} seed {self.seed}"

    @property
    def description(self) -> str:
        """Result, progress, missing inputs or error, in one line; empty for a stage that is ready."""
        if self.state == "published":
            return self.result or ""
        if self.running:
            steps = f"step {self.running.step:,} of {self.running.total:,}, " if self.running.total else ""
            return f"{steps}last heartbeat {self.running.age:.0f} s ago"
        if self.failed:
            return one_line(self.failed.error.partition("\n")[0])
        return f"for {', '.join(self.waits_for)}" if self.waits_for else ""

    @property
    def is_stale(self) -> bool:
        """True if the stage runs and has sent no heartbeat for a minute."""
        return self.running is not None and self.running.age > STALE_AFTER_SECONDS

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time that the remaining training steps take; None if unknown."""
        running = self.running
        if running is None or not running.rate or not running.total or self.is_stale:
            return None
        return max(0.0, (running.total - running.step) / running.rate - running.age)

    def as_json(self) -> dict[str, Any]:
        """Return the object that `ftjobs status --json` prints, with the fields of the attempt at its top level."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("running", "failed")}
        attempt = self.running or self.failed
        return {**fields, **(asdict(attempt) if attempt else {})}


def stage_statuses(runs: list[StageRun], storage: Storage) -> list[StageStatus]:
    """Return the state of every stage and seed, in the order of `runs`."""
    manifests = {run.key: artifacts.find_manifest(storage, run) for run in runs}
    statuses = []
    for run in runs:
        missing = sorted({read.title for read in run.inputs.values() if manifests[read.key] is None})
        manifest, seed, identity = manifests[run.key], run.seed if run.has_seed else None, run.identity[:12]
        if manifest is not None:
            status = StageStatus(
                *(run.stage, seed, "published", [], identity),
                result=summarize(manifest),
                accuracy=manifest.metrics.get("accuracy"),
                perplexity=manifest.metrics.get("best", {}).get("perplexity"),
            )
        elif isinstance(attempt := latest_attempt(storage, run), RunningAttempt):
            status = StageStatus(run.stage, seed, "running", [], identity, running=attempt)
        elif attempt is not None:
            status = StageStatus(run.stage, seed, "failed", [], identity, failed=attempt)
        else:
            status = StageStatus(run.stage, seed, "waiting" if missing else "ready", missing, identity)
        statuses.append(status)
    return statuses


def estimate_work(run: StageRun, prepared: Manifest | None) -> str:
    """Describe the work of a stage: optimizer steps once its data is `prepared`, epochs before that.

    Args:
        run: the stage.
        prepared: manifest of the stage that prepares its data or corpus; None if it is not published.
    """
    settings = run.settings
    if not isinstance(settings, Adapt | Classify):
        return "-"
    epochs = f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}"
    if prepared is None:
        return epochs
    if isinstance(settings, Adapt) and isinstance(settings.corpus, Corpus):  # packing needs the tokenizer
        return f"{epochs} of {prepared.metrics['train']:,} passages"
    rows: dict[str, int] = prepared.metrics["rows"]
    examples = rows["train"]
    if isinstance(settings, Adapt):
        columns = Data.model_validate(prepared.settings["data"]).text_columns
        examples = len(columns) * (rows["train"] if settings.corpus == "train" else sum(rows.values()))
        if get_objective(settings.objective).example_unit:  # the number of examples is known after tokenization
            return f"{epochs} on {examples:,} texts"
    per_step = settings.per_device_batch_size * settings.gradient_accumulation_steps
    return f"{settings.epochs * -(-examples // per_step):,} steps on {examples:,} texts"


def summarize(manifest: Manifest) -> str:
    """Summarize the result of a published stage in a few words."""
    metrics = manifest.metrics
    if manifest.kind == "classify":
        task = max(all_tasks(), key=lambda task: len(metrics.keys() & {metric.key for metric in task.metrics}))
        selection = task.default_metric
        result = f"{selection.name} {_format(metrics[selection.key], '.4f' if selection.is_share else '.4g')}"
        if task.numeric:
            result += "".join(f", {name} {_format(metrics[key], '.4f')}" for key, name in task.measure.others[:1])
        return f"{result} in epoch {metrics['best_epoch']}"
    if manifest.kind == "adapt":
        before, best = metrics["before"]["perplexity"], metrics["best"]["perplexity"]
        changes = [f"perplexity {_format(before, '.1f')} -> {_format(best, '.1f')}"]
        for name in (name for name in all_figures() if name in metrics["before"]):
            before, best = (_format(metrics[when][name], ".4f") for when in ("before", "best"))
            changes.append(f"{name.replace('_', ' ')} {before} -> {best}")
        return ", ".join(changes)
    if manifest.kind == "corpus":
        dropped = sum(metrics[name] for name in ("empty", "contaminated", "exact_duplicates", "near_duplicates"))
        return f"{metrics['train']:,} passages, {metrics['held_out']:,} held out, {dropped:,} dropped"
    return f"{manifest.size:,} bytes"


def _format(value: float | None, form: str) -> str:
    return "not finite" if value is None else format(value, form)  # JSON stores values that are not finite as null
