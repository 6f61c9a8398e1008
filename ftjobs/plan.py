"""Turn a job file into its stages, in the order they run, each with the identity of its result.

An identity is a sha256 over everything that determines the result of a stage: its settings, the identities of its
inputs, its seed, and the version of its kind. Identities are known before anything runs, so a stage that is published
under its identity is never run again. Settings that equal their default are left out, so that adding a setting changes
no identity of jobs that do not use it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pydantic import Field

from ftjobs.errors import UserError
from ftjobs.jobfile.canonical import corpus_content, data_content, encoder_content, resolve_job
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, CorpusSource, Data, Encoder, Fields, Job, Tracking
from ftjobs.jobfile.implicit_stages import ImplicitStage, implicit_stages, provided_by

#: Version of each kind, part of its identities. Raise it when code or a default changes results for equal settings.
STAGE_VERSIONS = {"prepare": 3, "data": 1, "corpus": 2, "adapt": 5, "classify": 4, "report": 3}
#: Kinds that run once for all seeds, under the seed `NO_SEED`.
_KINDS_WITHOUT_SEED = ("prepare", "data", "corpus", "report")
NO_SEED = 0
NO_TRACKING = Tracking()


class Prepare(Fields):
    """Settings of the `prepare` stage: the encoder and data of the job."""

    encoder: Encoder
    data: Data


class DataStage(Fields):
    """Settings of a `data` stage: data that some stages use in place of the job's."""

    stage: str
    """The first stage that reads it."""
    data: Data


class CorpusStage(Fields):
    """Settings of a `corpus` stage: passages that some `adapt` stages train on in place of the job's texts."""

    stage: str
    """The first stage that reads it."""
    corpus: CorpusSource


class Report(Fields):
    """Settings of the `report` stage."""

    pipeline: str
    stages: list[str]
    hypotheses: list[str]
    own_data: dict[str, str] = Field(default={})
    """Stage -> the `data` stage that provides its data, for stages that do not use the job's."""
    corpora: dict[str, str] = Field(default={})
    """Stage -> the `corpus` stage that provides its corpus."""
    job: dict[str, Any]
    """The resolved job: every default filled in, and without paths of this machine."""


Settings = Prepare | DataStage | CorpusStage | Adapt | Classify | Report


@dataclass(frozen=True)
class StageRun:
    """One stage with one seed: run by one container, published as one artifact."""

    pipeline: str
    stage: str
    kind: str
    seed: int
    settings: Settings
    identity: str
    inputs: dict[str, StageRun] = field(default_factory=dict)
    """Role -> stage that is read: `prepare`, `encoder`, `data`, `corpus`; for the report one role per stage."""
    tracking: Tracking = NO_TRACKING
    """Trackers that the run logs to; not part of the identity."""

    @property
    def key(self) -> str:
        """Key of the artifact in storage, without a trailing slash."""
        return artifact_key(self.pipeline, self.stage, self.seed, self.identity)

    @property
    def has_seed(self) -> bool:
        """True for kinds that are repeated for every seed, those that train."""
        return self.kind not in _KINDS_WITHOUT_SEED

    @property
    def data(self) -> StageRun:
        """The stage that provides the data: a `data` stage or `prepare`."""
        return self.inputs.get("data") or self.inputs["prepare"]

    @property
    def title(self) -> str:
        """Name in messages: `head seed 42`, or `prepare` for a stage without seed."""
        return f"{self.stage} seed {self.seed}" if self.has_seed else self.stage


def artifact_key(pipeline: str, stage: str, seed: int, identity: str) -> str:
    """Return the key of an artifact in storage, without a trailing slash."""
    return f"{pipeline}/{stage}/seed-{seed}/{identity[:12]}"


def plan(job: Job) -> list[StageRun]:
    """Return all stages of a job, one entry per stage and seed, each after its inputs.

    Raises:
        UserError: a local file or folder that the job names does not exist.
    """
    prepare = _prepare_run(job)
    provided = {stage.name: _implicit_run(job, stage, prepare) for stage in implicit_stages(job)}
    runs = _training_runs(job, prepare, provided)
    return [prepare, *provided.values(), *runs, _report_run(job, prepare, provided, runs)]


def select(runs: list[StageRun], stage: str, seed: int | None = None) -> StageRun:
    """Return the run of a stage and seed. The seed may be left out if there is only one.

    Raises:
        UserError: no such stage or seed, or several seeds and none given.
    """
    candidates = [run for run in runs if run.stage == stage]
    if not candidates:
        names = ", ".join(dict.fromkeys(run.stage for run in runs))
        raise UserError(f"there is no stage `{stage}`; the stages are: {names}")
    if not candidates[0].has_seed:
        return candidates[0]
    seeds = [run.seed for run in candidates]
    if seed is None and len(candidates) > 1:
        raise UserError(f"stage `{stage}` has the seeds {', '.join(map(str, seeds))}; choose one with --seed")
    for run in candidates:
        if seed is None or run.seed == seed:
            return run
    raise UserError(f"stage `{stage}` has no seed {seed}; its seeds are: {', '.join(map(str, seeds))}")


def select_index(runs: list[StageRun], stage: str, index: int) -> StageRun:
    """Return the run of a stage by the position of its seed in the job file; 0 for a stage without seed.

    Raises:
        UserError: no such stage or position.
    """
    candidates = [run for run in runs if run.stage == stage]
    select(runs, stage, candidates[0].seed if candidates else None)  # raises for an unknown stage
    if not 0 <= index < len(candidates):
        raise UserError(
            f"--seed-index {index}: stage `{stage}` has no seed number {index}; give a number from 0 to "
            f"{len(candidates) - 1}"
        )
    return candidates[index]


def _prepare_run(job: Job) -> StageRun:
    settings = Prepare(encoder=job.encoder, data=job.data)
    content = settings.model_dump(exclude_defaults=True)
    content["data"] = data_content(settings.data, "data")
    if files := encoder_content(settings.encoder):
        content["encoder"] = {"files": files}
    return _stage_run(job, "prepare", "prepare", NO_SEED, settings, {}, content)


def _implicit_run(job: Job, stage: ImplicitStage, prepare: StageRun) -> StageRun:
    """Plan a stage that provides data or a corpus. Decontamination of a corpus reads the test texts of `prepare`."""
    reader, path = stage.readers[0], ".".join(stage.field)
    settings: Settings
    if isinstance(stage.settings, CorpusSource):
        settings = CorpusStage(stage=reader, corpus=stage.settings)
        inputs = {"prepare": prepare} if stage.settings.decontaminate else {}
        content: dict[str, Any] = {"corpus": corpus_content(stage.settings, path)}
    else:
        settings, inputs = DataStage(stage=reader, data=stage.settings), {}
        content = {"data": data_content(stage.settings, path)}
    return _stage_run(job, stage.name, stage.kind, NO_SEED, settings, inputs, content)


def _training_runs(job: Job, prepare: StageRun, provided: dict[str, StageRun]) -> list[StageRun]:
    providers = provided_by(job)
    runs: dict[tuple[str, int], StageRun] = {}
    for name in _in_order_of_encoders(job):
        settings = job.stage(name)
        content = settings.model_dump(exclude={"encoder", "kind", "save_every", "data"}, exclude_defaults=True)
        if isinstance(settings, Adapt) and isinstance(settings.corpus, Corpus):
            # Fields of the source are part of the identity of the corpus stage, which is an input.
            content["corpus"] = settings.corpus.model_dump(include=Corpus.example_fields(), exclude_defaults=True)
        if content.get("metric_for_best") == job.task(name).default_metric.key:
            del content["metric_for_best"]
        provider = providers.get(name)
        own_inputs: dict[str, StageRun] = {provider.kind: provided[provider.name]} if provider else {}
        for seed in job.seeds:
            encoder = prepare if settings.encoder is None else runs[settings.encoder, seed]
            inputs = {"prepare": prepare, "encoder": encoder, **own_inputs}
            runs[name, seed] = _stage_run(job, name, settings.kind, seed, settings, inputs, content)
    return list(runs.values())


def _report_run(job: Job, prepare: StageRun, provided: dict[str, StageRun], runs: list[StageRun]) -> StageRun:
    providers = provided_by(job)
    settings = Report(
        pipeline=job.name,
        stages=list(job.stages),
        hypotheses=job.hypotheses,
        own_data={name: stage.name for name, stage in providers.items() if stage.kind == "data"},
        corpora={name: stage.name for name, stage in providers.items() if stage.kind == "corpus"},
        job=resolve_job(job),
    )
    # All other fields of the resolved job are part of the identities of the inputs.
    content = settings.model_dump(exclude={"job", "own_data", "corpora"})
    content |= {"seeds": job.seeds, "encoders": {name: job.stage_encoder(name) for name in job.stages}}
    inputs = {"prepare": prepare, **provided, **{f"{run.stage}/seed-{run.seed}": run for run in runs}}
    return _stage_run(job, "report", "report", NO_SEED, settings, inputs, content)


def _in_order_of_encoders(job: Job) -> list[str]:
    """Return stage names in the order of the file, except that a stage follows the one that provides its encoder."""
    ordered: dict[str, None] = {}
    for stage in job.stages:
        chain: list[str] = []
        name: str | None = stage
        while name is not None and name not in ordered:
            chain.append(name)
            name = job.stage_encoder(name)
        ordered |= dict.fromkeys(reversed(chain))
    return list(ordered)


def _stage_run(
    job: Job, stage: str, kind: str, seed: int, settings: Settings, inputs: dict[str, StageRun], content: dict[str, Any]
) -> StageRun:
    """Compute the identity of a stage from `content`, the settings that determine its result."""
    identified = {
        "kind": kind,
        "version": STAGE_VERSIONS[kind],
        "seed": seed,
        "settings": content,
        "inputs": {role: run.identity for role, run in inputs.items()},
    }
    canonical = json.dumps(identified, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    identity = hashlib.sha256(canonical.encode()).hexdigest()
    return StageRun(job.name, stage, kind, seed, settings, identity, inputs, job.tracking)
