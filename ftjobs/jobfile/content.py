"""What of a job's data and encoder decides a result: local files count by their content, not by their path."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.data_mappings import each_source
from ftjobs.jobfile.fields import CorpusSource, Data, Encoder
from ftjobs.objectives import all_objectives


def of_data(data: Data, field: str) -> dict[str, Any]:
    """What decides which rows labelled data has. Errors call it `field`; raises UserError where a file is missing."""
    content = data.model_dump(exclude_defaults=True)
    return {**content, "source": each_source(data.source, lambda one, _: _of_source(one, data.format, field))}


def of_corpus(corpus: CorpusSource, field: str) -> dict[str, Any]:
    """What decides which passages a corpus has. Errors call it `field`; raises UserError where a file is missing."""
    content = corpus.model_dump(exclude_defaults=True)
    return {**content, "source": [_of_source(one, corpus.format, field) for one in corpus.sources]}


def of_encoder(encoder: Encoder) -> list[list[str]] | None:
    """Names and sha256 of the files of an encoder on this machine; None for others.

    Raises:
        UserError: it is no folder.
    """
    if encoder.model is None or not local_files.is_local(encoder.model):
        return None
    folder = Path(os.path.expanduser(encoder.model))
    if not os.path.isdir(folder):
        raise UserError(
            f"encoder.model: {folder} is no folder (looked at {folder.absolute()}); give a hub id such as "
            "google-bert/bert-base-cased, or a folder with config.json, weights and tokenizer files"
        )
    companions = [folder / objective.companion_folder for objective in all_objectives() if objective.companion_folder]
    candidates = [*folder.iterdir(), *(path for companion in companions for path in companion.glob("*"))]
    files = sorted(path for path in candidates if path.is_file() and not path.name.startswith("."))
    return [[path.relative_to(folder).as_posix(), local_files.digest(path)] for path in files]


def _of_source(source: str, declared: str | None, field: str) -> Any:
    if not local_files.is_local(source):
        return source
    root = Path(os.path.expanduser(source))
    content = []
    for path in local_files.expand(source, f"{field}.source"):
        # Names count: they say the split; in a folder, those of folders too.
        name = path.relative_to(root).as_posix() if root.is_dir() else path.name
        content.append([name, local_files.format_of(path, declared, field), local_files.digest(path)])
    return content
