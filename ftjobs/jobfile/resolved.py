"""The job as one could write it with nothing left to defaults, and nothing in it that names this machine."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from ftjobs.jobfile import local_files
from ftjobs.jobfile.data_mappings import data_mappings, each_source
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.implicit_stages import provided_by


def resolved(job: Job) -> dict[str, Any]:
    """A job file, as plain data, that makes the same artifacts.

    Local files are named without their folder, so the file works beside them; those of a stage that are called like
    others of the job belong into a folder named after the stage that brings them. Tracking and the times at which
    training state is saved change no result and are left out.
    """
    fields = job.model_dump(mode="json", exclude={"defaults", "stages", "tracking"}, exclude_none=True)
    if "model" in fields["encoder"]:
        fields["encoder"]["model"] = _name(fields["encoder"]["model"])
    hypotheses = fields.pop("hypotheses")
    stages = {
        name: job.stage(name).model_dump(mode="json", exclude={"save_every"}, exclude_none=True) for name in job.stages
    }
    found = {**fields, "stages": stages, "hypotheses": hypotheses}
    bringing = {name: one.name for name, one in provided_by(job).items()}
    taken: dict[str, str] = {}
    for path, mapping in data_mappings(found):
        folder = bringing.get(path[1], "") if len(path) > 1 else ""
        mapping["source"] = each_source(mapping["source"], partial(_named, folder=folder, taken=taken))
    return found


def _named(source: str, _: str, *, folder: str, taken: dict[str, str]) -> str:
    """The name of a source, behind `folder` where another of the job has that name already."""
    name = _name(source)
    if taken.setdefault(name, source) != source and folder:
        name = f"{folder}/{name}"
    return name


def _name(source: str) -> str:
    """The name of a local file or folder; hub ids and addresses as they are."""
    return Path(os.path.abspath(os.path.expanduser(source))).name if local_files.is_local(source) else source
