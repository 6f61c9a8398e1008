"""Checks across the fields of a job: references to stages, cycles, columns, names, hypotheses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from pydantic import ValidationError

from ftjobs.jobfile.fields import MARGIN_TOO_LARGE, Adapt, Classify, Data, Hypothesis, Job
from ftjobs.jobfile.implicit_stages import implicit_stages
from ftjobs.objectives import Objective, all_objectives, get_objective
from ftjobs.tasks import all_tasks, get_task

RESERVED = ("prepare", "report")
#: Maximum characters of pipeline and stage name together. `<pipeline>-<stage>-<identity[:8]>-<index>` is the host name
#: of a pod, a DNS label of at most 63 characters, which the API server enforces for Indexed Jobs; allows 10,000 seeds.
MAX_NAMES = 48
_NOT_COMPARED = (
    "is trained and evaluated on its own data, so it cannot be compared with stages on the job's data; use a stage "
    "that starts from its encoder"
)
#: `model_type` of the encoders that `encoder.scratch` builds.
_SCRATCH_TYPE = "bert"
Problem = tuple[tuple[str | int, ...], str]


def check(job: Job) -> list[Problem]:
    """Return every problem across fields, as (path in the job file, message)."""
    checks = (_check_data, _check_stages, _check_cycles, _check_implicit_stages, _check_hypotheses)
    return [problem for find_problems in checks for problem in find_problems(job)]


def _check_data(job: Job) -> Iterator[Problem]:
    classifying = [name for name, stage in job.stages.items() if isinstance(stage, Classify)]
    yield from _check_columns(("data",), job.data, [name for name in classifying if job.own_data(name) is None])
    if len(set(job.seeds)) < len(job.seeds):
        yield ("seeds",), f"{job.seeds} repeats a seed; remove one, as each seed is one repetition"


def _check_columns(where: tuple[str, ...], data: Data, classifying: Sequence[str]) -> Iterator[Problem]:
    """Yield problems of the columns of `data`, which the stages `classifying` train on."""
    columns = data.text_columns
    if len(set(columns)) < len(columns):
        yield (*where, "text"), f"column `{columns[0]}` is repeated; remove one"
    for label in dict.fromkeys(data.label_columns):
        if label in columns:
            yield (*where, "label"), f"column `{label}` is also a text column; remove it from one"
        if data.label_columns.count(label) > 1:
            yield (*where, "label"), f"column `{label}` is repeated; remove one"
    if data.label is None and classifying:
        yield where, f"`label` is missing; stage `{classifying[0]}` classifies and requires a label column"


def _check_implicit_stages(job: Job) -> Iterator[Problem]:
    for implicit in implicit_stages(job):
        if isinstance(implicit.settings, Data):
            yield from _check_columns(implicit.field, implicit.settings, implicit.readers)
        if implicit.name in job.stages:
            provided = f"the {implicit.kind} of `{implicit.readers[0]}`"
            reason = f"`{implicit.name}` is the name of the implicit stage for {provided}"
            yield ("stages", implicit.name), f"{reason}; choose another name"
        if (total := len(job.name) + len(implicit.name)) > MAX_NAMES:
            reason = f"`{job.name}` and `{implicit.name}`, the implicit stage for it, have {total} characters together"
            yield implicit.field, f"{reason}; shorten a name to at most {MAX_NAMES}"


def _check_stages(job: Job) -> Iterator[Problem]:
    for name in job.stages:
        if name in RESERVED:
            yield ("stages", name), f"every pipeline has an implicit stage `{name}`; choose another name"
        if len(job.name) + len(name) > MAX_NAMES:
            total = len(job.name) + len(name)
            reason = f"`{job.name}` and `{name}` have {total} characters together"
            yield ("stages", name), f"{reason}; shorten a name to at most {MAX_NAMES}"
        encoder = job.stage_encoder(name)
        if encoder is not None and encoder not in job.stages:
            yield ("stages", name, "encoder"), _unknown_stage(encoder, job.stages)
        try:
            yield from _check_objective(job, name, job.stage(name))
            yield from _check_task(job, name, job.stage(name))
        except ValidationError as error:  # fields that conflict with the defaults
            for detail in error.errors():
                yield ("stages", name), detail["msg"].removeprefix("Value error, ")


def _check_task(job: Job, name: str, stage: Adapt | Classify) -> Iterator[Problem]:
    """Yield settings that the stage's task does not have."""
    if not isinstance(stage, Classify):
        return
    task = job.task(name)
    for field in sorted({setting for other in all_tasks() for setting in other.settings} - task.settings):
        if getattr(stage, field) != Classify.model_fields[field].default:
            owners = " or ".join(other.name for other in all_tasks() if field in other.settings)
            problem = f"applies only to label_type: {owners}, not to label_type: {task.name}; remove the field"
            yield ("stages", name, field), problem
    known = [metric.key for metric in task.metrics]
    if stage.metric_for_best not in known:
        problem = f"`{stage.metric_for_best}` is not a metric of label_type: {task.name}"
        yield ("stages", name, "metric_for_best"), f"{problem}; choose one of {', '.join(known)}"


def _check_objective(job: Job, name: str, stage: Adapt | Classify) -> Iterator[Problem]:
    """Yield objectives that the encoder of `encoder.scratch` does not support."""
    if not isinstance(stage, Adapt) or job.encoder.scratch is None:
        return
    supported = [objective.name for objective in all_objectives() if _trains_scratch(objective)]
    if stage.objective not in supported:
        families = ", ".join(family.upper() for family in get_objective(stage.objective).encoder_types)
        reason = f"{stage.objective} needs an encoder of type {families}, and encoder.scratch builds a BERT"
        yield ("stages", name, "objective"), f"{reason}; use one of: {', '.join(supported)}"


def _trains_scratch(objective: Objective) -> bool:
    return not objective.encoder_types or _SCRATCH_TYPE in objective.encoder_types


def _check_cycles(job: Job) -> Iterator[Problem]:
    settled: set[str] = set()
    for start in job.stages:
        trail: list[str] = []
        name: str | None = start
        while name is not None and name in job.stages and name not in settled:
            if name in trail:
                cycle = [*trail[trail.index(name) :], name]
                reason = f"the stages depend on each other: {' -> '.join(cycle)}"
                yield ("stages", name, "encoder"), f"{reason}; remove one `encoder`"
                break
            trail.append(name)
            name = job.stage_encoder(name)
        settled.update(trail)


def _check_hypotheses(job: Job) -> Iterator[Problem]:
    intermediate = {name for stage in implicit_stages(job) if stage.kind == "data" for name in stage.readers}
    classifiers = [
        name for name, stage in job.stages.items() if isinstance(stage, Classify) and name not in intermediate
    ]
    for index, text in enumerate(job.hypotheses):
        try:
            hypothesis = Hypothesis.parse(text)
        except ValueError as error:
            yield ("hypotheses", index), f"{text!r} {error}"
            continue
        if hypothesis.by >= 1 and get_task(job.data.label_type).default_metric.is_share:
            yield ("hypotheses", index), f"{text!r} {MARGIN_TOO_LARGE}"
        for name in (hypothesis.better, hypothesis.worse):
            if name not in job.stages:
                yield ("hypotheses", index), _unknown_stage(name, classifiers)
            elif name in intermediate:
                yield ("hypotheses", index), f"`{name}` {_NOT_COMPARED}"
            elif name not in classifiers:
                yield (
                    ("hypotheses", index),
                    f"`{name}` is not a classify stage and has no accuracy; use one",
                )
        if hypothesis.better == hypothesis.worse:
            yield ("hypotheses", index), f"{text!r} compares a stage with itself; use two stages"


def _unknown_stage(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"the stages are: {', '.join(known)}"
    return f"there is no stage `{name}`; {remedy}"
