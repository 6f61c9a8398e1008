"""What must hold between the fields of a job: names that refer to stages, cycles, hypotheses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from ftjobs.jobfile.fields import Classify, Hypothesis, Job

RESERVED = ("prepare", "report")
#: Characters of pipeline and stage together. `<pipeline>-<stage>-<identity[:8]>-<highest index>` is the host name of a
#: pod, a DNS label of at most 63 characters (the API server checks it of Indexed Jobs): room for 10,000 seeds.
MAX_NAMES = 48
Problem = tuple[tuple[str | int, ...], str]


def check(job: Job) -> list[Problem]:
    """Every problem that no single field shows, as (path in the job file, message)."""
    return [*_data(job), *_stages(job), *_cycles(job), *_hypotheses(job)]


def _data(job: Job) -> Iterator[Problem]:
    columns = job.data.text_columns
    if len(set(columns)) < len(columns):
        yield ("data", "text"), f"column `{columns[0]}` stands twice"
    if job.data.label in columns:
        yield ("data", "label"), f"`{job.data.label}` is a text column too"
    if job.data.label is None:
        for name, stage in job.stages.items():
            if isinstance(stage, Classify):
                yield ("data",), f"`label` is missing; stage `{name}` classifies and needs the column of the class"
                break
    if len(set(job.seeds)) < len(job.seeds):
        yield ("seeds",), f"a seed stands twice in {job.seeds}; each seed is one repetition"


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
            job.stage(name)
        except ValidationError as error:  # fields that clash only once the defaults are merged in
            for detail in error.errors():
                yield ("stages", name), detail["msg"].removeprefix("Value error, ")


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
    classifiers = [name for name, stage in job.stages.items() if isinstance(stage, Classify)]
    for index, text in enumerate(job.hypotheses):
        try:
            hypothesis = Hypothesis.parse(text)
        except ValueError as error:
            yield ("hypotheses", index), f"{text!r} {error}"
            continue
        for name in (hypothesis.better, hypothesis.worse):
            if name not in job.stages:
                yield ("hypotheses", index), _no_such_stage(name, classifiers)
            elif name not in classifiers:
                yield ("hypotheses", index), f"`{name}` is not a classify stage, so it has no accuracy to compare"
        if hypothesis.better == hypothesis.worse:
            yield ("hypotheses", index), f"{text!r} compares a stage with itself"


def _no_such_stage(name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"the stages are: {', '.join(known)}"
    return f"there is no stage `{name}`; {remedy}"
