"""What must hold between the fields of a job: names that refer to stages, cycles, hypotheses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence

from pydantic import ValidationError

from ftjobs.jobfile.fields import Adapt, Classify, Data, Hypothesis, Job
from ftjobs.jobfile.fields.hypothesis import TOO_LARGE
from ftjobs.jobfile.implicit_stages import implicit_stages
from ftjobs.objectives import Objective, all_objectives, get_objective
from ftjobs.tasks import all_tasks, get_task

RESERVED = ("prepare", "report")
#: Characters of pipeline and stage together. `<pipeline>-<stage>-<identity[:8]>-<highest index>` is the host name of a
#: pod, a DNS label of at most 63 characters (the API server checks it of Indexed Jobs): room for 10,000 seeds.
MAX_NAMES = 48
_NOT_COMPARED = (
    "is trained and measured on data of its own, so it cannot be compared with stages on the job's data; name a stage "
    "that takes its encoder"
)
#: `model_type` of the encoders that `encoder.scratch` builds.
_SCRATCH_TYPE = "bert"
Problem = tuple[tuple[str | int, ...], str]


def check(job: Job) -> list[Problem]:
    """Every problem that no single field shows, as (path in the job file, message)."""
    return [*_data(job), *_stages(job), *_cycles(job), *_derived(job), *_hypotheses(job)]


def _data(job: Job) -> Iterator[Problem]:
    classifying = [name for name, stage in job.stages.items() if isinstance(stage, Classify)]
    yield from _columns(("data",), job.data, [name for name in classifying if job.own_data(name) is None])
    if len(set(job.seeds)) < len(job.seeds):
        yield ("seeds",), f"a seed stands twice in {job.seeds}; each seed is one repetition"


def _columns(where: tuple[str, ...], data: Data, classifying: Sequence[str]) -> Iterator[Problem]:
    """Of the columns of some data, which the stages `classifying` learn the classes of."""
    columns = data.text_columns
    if len(set(columns)) < len(columns):
        yield (*where, "text"), f"column `{columns[0]}` stands twice"
    for label in dict.fromkeys(data.label_columns):
        if label in columns:
            yield (*where, "label"), f"`{label}` is a text column too"
        if data.label_columns.count(label) > 1:
            yield (*where, "label"), f"column `{label}` stands twice"
    if data.label is None and classifying:
        yield where, f"`label` is missing; stage `{classifying[0]}` classifies and needs the column of the class"


def _derived(job: Job) -> Iterator[Problem]:
    for one in implicit_stages(job):
        if isinstance(one.settings, Data):
            yield from _columns(one.field, one.settings, one.readers)
        if one.name in job.stages:
            reason = f"`{one.name}` is the name of the stage that brings the {one.kind} of `{one.readers[0]}`"
            yield ("stages", one.name), f"{reason}; choose another name"
        if (total := len(job.name) + len(one.name)) > MAX_NAMES:
            reason = f"`{job.name}` and `{one.name}`, the stage that brings it, have {total} characters together"
            yield one.field, f"{reason}, at most {MAX_NAMES}"


def _stages(job: Job) -> Iterator[Problem]:
    for name in job.stages:
        if name in RESERVED:
            yield ("stages", name), f"every pipeline has its own `{name}` stage; choose another name"
        if len(job.name) + len(name) > MAX_NAMES:
            total = len(job.name) + len(name)
            yield ("stages", name), f"`{job.name}` and `{name}` have {total} characters together, at most {MAX_NAMES}"
        encoder = job.stage_encoder(name)
        if encoder is not None and encoder not in job.stages:
            yield ("stages", name, "encoder"), _no_such_stage(encoder, job.stages)
        try:
            yield from _objective(job, name, job.stage(name))
            yield from _fits_labels(job, name, job.stage(name))
        except ValidationError as error:  # fields that clash only once the defaults are merged in
            for detail in error.errors():
                yield ("stages", name), detail["msg"].removeprefix("Value error, ")


def _fits_labels(job: Job, name: str, stage: Adapt | Classify) -> Iterator[Problem]:
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


def _objective(job: Job, name: str, stage: Adapt | Classify) -> Iterator[Problem]:
    """What an encoder that is made on the spot, a BERT, cannot be trained by."""
    if not isinstance(stage, Adapt) or job.encoder.scratch is None:
        return
    supported = [objective.name for objective in all_objectives() if _trains_scratch(objective)]
    if stage.objective not in supported:
        families = ", ".join(family.upper() for family in get_objective(stage.objective).encoder_types)
        reason = f"{stage.objective} needs an encoder of type {families}, and encoder.scratch builds a BERT"
        yield ("stages", name, "objective"), f"{reason}; use one of: {', '.join(supported)}"


def _trains_scratch(objective: Objective) -> bool:
    return not objective.encoder_types or _SCRATCH_TYPE in objective.encoder_types


def _cycles(job: Job) -> Iterator[Problem]:
    settled: set[str] = set()
    for start in job.stages:
        trail: list[str] = []
        name: str | None = start
        while name is not None and name in job.stages and name not in settled:
            if name in trail:
                cycle = [*trail[trail.index(name) :], name]
                yield ("stages", name, "encoder"), f"the stages wait for each other: {' -> '.join(cycle)}"
                break
            trail.append(name)
            name = job.stage_encoder(name)
        settled.update(trail)


def _hypotheses(job: Job) -> Iterator[Problem]:
    own = {name for one in implicit_stages(job) if one.kind == "data" for name in one.readers}
    classifiers = [name for name, stage in job.stages.items() if isinstance(stage, Classify) and name not in own]
    for index, text in enumerate(job.hypotheses):
        try:
            hypothesis = Hypothesis.parse(text)
        except ValueError as error:
            yield ("hypotheses", index), f"{text!r} {error}"
            continue
        if hypothesis.by >= 1 and get_task(job.data.label_type).default_metric.is_share:
            yield ("hypotheses", index), f"{text!r} {TOO_LARGE}"
        for name in (hypothesis.better, hypothesis.worse):
            if name not in job.stages:
                yield ("hypotheses", index), _no_such_stage(name, classifiers)
            elif name in own:
                yield ("hypotheses", index), f"`{name}` {_NOT_COMPARED}"
            elif name not in classifiers:
                yield ("hypotheses", index), f"`{name}` is not a classify stage, so it has no accuracy to compare"
        if hypothesis.better == hypothesis.worse:
            yield ("hypotheses", index), f"{text!r} compares a stage with itself"


def _no_such_stage(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"the stages are: {', '.join(known)}"
    return f"there is no stage `{name}`; {remedy}"
