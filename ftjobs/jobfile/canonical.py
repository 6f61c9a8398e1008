"""Machine-independent forms of a job: the resolved job file, and the content that stage identities cover."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import CorpusSource, Data, Encoder, Job
from ftjobs.jobfile.implicit_stages import provided_by
from ftjobs.jobfile.local_files import data_mappings, map_source
from ftjobs.objectives import all_objectives


def resolve_job(job: Job) -> dict[str, Any]:
    """Return a job file, as plain data, with all defaults filled in that produces the same artifacts.

    Local files are named without their folder, so the job file works next to copies of them. Equal names of different
    files are prefixed with a folder named after the implicit stage that reads the file. Tracking and `save_every` are
    omitted because they do not change results.
    """
    fields = job.model_dump(mode="json", exclude={"defaults", "stages", "tracking"}, exclude_none=True)
    if "model" in fields["encoder"]:
        fields["encoder"]["model"] = _base_name(fields["encoder"]["model"])
    hypotheses = fields.pop("hypotheses")
    stages = {
        name: job.stage(name).model_dump(mode="json", exclude={"save_every"}, exclude_none=True) for name in job.stages
    }
    resolved = {**fields, "stages": stages, "hypotheses": hypotheses}
    providers = {name: stage.name for name, stage in provided_by(job).items()}
    sources_by_name: dict[str, str] = {}
    for path, mapping in data_mappings(resolved):
        folder = providers.get(path[1], "") if len(path) > 1 else ""
        rename = partial(_unique_name, folder=folder, sources_by_name=sources_by_name)
        mapping["source"] = map_source(mapping["source"], rename)
    return resolved


def _unique_name(source: str, _: str, *, folder: str, sources_by_name: dict[str, str]) -> str:
    """Return the name of a source, below `folder` if another source has the same name."""
    name = _base_name(source)
    if sources_by_name.setdefault(name, source) != source and folder:
        name = f"{folder}/{name}"
    return name


def _base_name(source: str) -> str:
    """Return the name of a local file or folder; hub ids and addresses unchanged."""
    return Path(os.path.abspath(os.path.expanduser(source))).name if local_files.is_local(source) else source


def data_content(data: Data, field: str) -> dict[str, Any]:
    """Return the content that determines the rows of a data set, with digests instead of paths of local files.

    Args:
        data: the data set.
        field: its path in the job file, for error messages.

    Raises:
        UserError: a file does not exist.
    """
    content = data.model_dump(exclude_defaults=True)
    return {**content, "source": map_source(data.source, lambda source, _: _source_content(source, data.format, field))}


def corpus_content(corpus: CorpusSource, field: str) -> dict[str, Any]:
    """Return the content that determines the passages of a corpus, with digests instead of paths of local files.

    Args:
        corpus: the corpus.
        field: its path in the job file, for error messages.

    Raises:
        UserError: a file does not exist.
    """
    content = corpus.model_dump(exclude_defaults=True)
    return {**content, "source": [_source_content(source, corpus.format, field) for source in corpus.sources]}


def encoder_content(encoder: Encoder) -> list[list[str]] | None:
    """Return names and sha256 of the files of a local encoder; None for other encoders.

    Raises:
        UserError: the path is not a folder.
    """
    if encoder.model is None or not local_files.is_local(encoder.model):
        return None
    folder = Path(os.path.expanduser(encoder.model))
    if not os.path.isdir(folder):
        raise UserError(
            f"encoder.model: {folder} is not a folder (looked at {folder.absolute()}); use a hub id such as "
            "google-bert/bert-base-cased, or a folder with config.json, weights and tokenizer files"
        )
    companions = [folder / objective.companion_folder for objective in all_objectives() if objective.companion_folder]
    entries = [*folder.iterdir(), *(path for companion in companions for path in companion.glob("*"))]
    files = sorted(path for path in entries if path.is_file() and not path.name.startswith("."))
    return [[path.relative_to(folder).as_posix(), local_files.digest(path)] for path in files]


def _source_content(source: str, declared_format: str | None, field: str) -> Any:
    if not local_files.is_local(source):
        return source
    root = Path(os.path.expanduser(source))
    content = []
    for path in local_files.expand(source, f"{field}.source"):
        # Names are included because they determine the split; within a folder, also those of subfolders.
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        content.append([name, local_files.format_of(path, declared_format, field), local_files.digest(path)])
    return content
