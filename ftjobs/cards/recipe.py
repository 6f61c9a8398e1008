"""Reproduce a model: a job file with only the stages that lead to it, and the commands."""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

import yaml

from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, Data, Encoder
from ftjobs.jobfile.local_files import map_source
from ftjobs.plan import Prepare, StageRun

JOB = "job.yaml"


def job_text(chain: list[StageRun]) -> str:
    """Return a job file with the stages of `chain`, which keep their identities.

    Local files lose the path of their folder and belong next to the job file.
    """
    prepare = chain[0].settings
    assert isinstance(prepare, Prepare), "the first stage of every chain is `prepare`"
    job = {
        "name": chain[-1].pipeline,
        "encoder": _encoder(prepare.encoder),
        "data": _data(prepare.data),
        "seeds": [chain[-1].seed],
        "stages": {run.stage: {"kind": run.kind, **_settings(run)} for run in chain[1:]},
    }
    return yaml.safe_dump(job, sort_keys=False, allow_unicode=True, width=100)


def with_data(chain: list[StageRun]) -> list[StageRun]:
    """Return the stages of `chain`, each after the stage that reads its own data or corpus, if it has one."""
    runs: dict[str, StageRun] = {}
    for run in chain:
        for kind in ("data", "corpus"):
            source = run.inputs.get(kind)
            if source and source.identity not in runs:  # the job file of this chain names it after this stage
                runs[source.identity] = replace(source, stage=f"{run.stage}-{kind}")
        runs[run.identity] = run
    return list(runs.values())


def command(run: StageRun) -> str:
    """Return the command that runs a stage."""
    return f"ftjobs stage {JOB} {run.stage}{f' --seed {run.seed}' if run.has_seed else ''}"


def _settings(run: StageRun) -> dict[str, Any]:
    fields = run.settings.model_dump(mode="json", exclude_defaults=True)
    if isinstance(run.settings, Classify) and run.settings.data is not None:
        fields["data"] = _data(run.settings.data, f"{run.data.stage}/" if "data" in run.inputs else "")
    if isinstance(run.settings, Adapt) and isinstance(run.settings.corpus, Corpus):
        folder = run.inputs["corpus"].stage
        fields["corpus"] |= {"source": map_source(fields["corpus"]["source"], partial(_relative_source, folder=folder))}
    return fields


def _relative_source(source: str, part: str, *, folder: str) -> str:
    """Return the path of a stage's source relative to the job file."""
    if not local_files.is_local(source):
        return source
    return f"./{folder}/{f'{part}/' if part else ''}{_last_part(source)}"


def _encoder(encoder: Encoder) -> dict[str, Any]:
    fields = encoder.model_dump(mode="json", exclude_defaults=True)
    if encoder.model is not None and local_files.is_local(encoder.model):
        fields["model"] = f"./{PurePath(encoder.model).name}"
    return {**fields, "scratch": fields.get("scratch", {})} if encoder.scratch is not None else fields


def _data(data: Data, folder: str = "") -> dict[str, Any]:
    """Return the fields of `data`; local files are in `folder`, relative to the job file, with a trailing slash."""
    fields = data.model_dump(mode="json", exclude_defaults=True)
    if isinstance(data.source, dict):
        local = [os.path.expanduser(source) for source in data.source.values() if local_files.is_local(source)]
        shared = os.path.commonpath([os.path.dirname(path) for path in local]) if local else ""
        fields["source"] = {
            split: f"./{folder}{os.path.relpath(os.path.expanduser(source), shared)}"
            if local_files.is_local(source)
            else source
            for split, source in data.source.items()
        }
    elif local_files.is_local(data.source):
        fields["source"] = f"./{folder}{_last_part(data.source)}"
    return fields


def _last_part(source: str) -> str:
    """Return a file, folder or pattern without its parent folders."""
    parts = PurePath(source).parts
    if os.path.exists(os.path.expanduser(source)) or not glob.has_magic(source):
        return parts[-1]
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return str(PurePath(*parts[first:]))
