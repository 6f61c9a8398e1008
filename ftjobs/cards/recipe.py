"""How to get the same model again: the job file that leads to it and to nothing else, and the commands."""

from __future__ import annotations

import glob
import os
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any

import yaml

from ftjobs.jobfile import local_files
from ftjobs.jobfile.data_mappings import each_source
from ftjobs.jobfile.fields import Adapt, Classify, Corpus, Data, Encoder
from ftjobs.plan import Prepare, StageRun

JOB = "job.yaml"


def job_text(chain: list[StageRun]) -> str:
    """A job file with the stages of `chain` only. It gives them the identities that they have.

    Files on the machine that ran it are named without the folders they were in, so they belong beside the job file.
    """
    prepare = chain[0].settings
    assert isinstance(prepare, Prepare), "every chain begins with `prepare`"
    job = {
        "name": chain[-1].pipeline,
        "encoder": _encoder(prepare.encoder),
        "data": _data(prepare.data),
        "seeds": [chain[-1].seed],
        "stages": {run.stage: {"kind": run.kind, **_settings(run)} for run in chain[1:]},
    }
    return yaml.safe_dump(job, sort_keys=False, allow_unicode=True, width=100)


def with_data(chain: list[StageRun]) -> list[StageRun]:
    """The stages of `chain`, each behind the one that brings it data or a corpus of its own, if it has any."""
    found: dict[str, StageRun] = {}
    for run in chain:
        for kind in ("data", "corpus"):
            brought = run.inputs.get(kind)
            if brought and brought.identity not in found:  # in the chain's own job it is named after this one
                found[brought.identity] = replace(brought, stage=f"{run.stage}-{kind}")
        found[run.identity] = run
    return list(found.values())


def command(run: StageRun) -> str:
    """What runs a stage."""
    return f"ftjobs stage {JOB} {run.stage}{f' --seed {run.seed}' if run.has_seed else ''}"


def _settings(run: StageRun) -> dict[str, Any]:
    said = run.settings.model_dump(mode="json", exclude_defaults=True)
    if isinstance(run.settings, Classify) and run.settings.data is not None:
        said["data"] = _data(run.settings.data, f"{run.data.stage}/" if "data" in run.inputs else "")
    if isinstance(run.settings, Adapt) and isinstance(run.settings.corpus, Corpus):
        folder = run.inputs["corpus"].stage
        said["corpus"] |= {"source": each_source(said["corpus"]["source"], partial(_beside, folder=folder))}
    return said


def _beside(source: str, part: str, *, folder: str) -> str:
    """Where a source of a stage belongs beside the job file."""
    if not local_files.is_local(source):
        return source
    return f"./{folder}/{f'{part}/' if part else ''}{_last_part(source)}"


def _encoder(encoder: Encoder) -> dict[str, Any]:
    said = encoder.model_dump(mode="json", exclude_defaults=True)
    if encoder.model is not None and local_files.is_local(encoder.model):
        said["model"] = f"./{PurePath(encoder.model).name}"
    return {**said, "scratch": said.get("scratch", {})} if encoder.scratch is not None else said


def _data(data: Data, folder: str = "") -> dict[str, Any]:
    """`folder`: where local files belong beside the job file, with a slash at the end."""
    said = data.model_dump(mode="json", exclude_defaults=True)
    if isinstance(data.source, dict):
        local = [os.path.expanduser(source) for source in data.source.values() if local_files.is_local(source)]
        shared = os.path.commonpath([os.path.dirname(path) for path in local]) if local else ""
        said["source"] = {
            split: f"./{folder}{os.path.relpath(os.path.expanduser(source), shared)}"
            if local_files.is_local(source)
            else source
            for split, source in data.source.items()
        }
    elif local_files.is_local(data.source):
        said["source"] = f"./{folder}{_last_part(data.source)}"
    return said


def _last_part(source: str) -> str:
    """A file, a folder or a pattern without the folders that it lies in."""
    parts = PurePath(source).parts
    if os.path.exists(os.path.expanduser(source)) or not glob.has_magic(source):
        return parts[-1]
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return str(PurePath(*parts[first:]))
