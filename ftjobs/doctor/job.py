"""A job file: whether it is right, and whether the hub has what it names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import huggingface_hub.constants
from huggingface_hub import HfApi

from ftjobs.doctor.finding import Finding
from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import CorpusSource, Data, Job
from ftjobs.jobfile.implicit_stages import implicit_stages
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.system.hub_errors import reason, refusal


def check(path: Path, overrides: Sequence[str]) -> Iterator[Finding]:
    """Read the job, and ask the hub for its encoder and data."""
    try:
        job = read(path, overrides)
        runs = plan(job)
    except UserError as error:
        yield from (Finding("job", problem, "problem") for problem in error.problems)
        return
    yield Finding("job", f"{path}: {len(runs)} runs of {len({run.stage for run in runs})} stages")
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        yield from _on_the_hub(job)


def _on_the_hub(job: Job) -> Iterator[Finding]:
    model = job.encoder.model
    if model is not None and _is_hub_id(model):
        yield _known("encoder", "model", model, job.encoder.revision)
    for data in (job.data, *(one.settings for one in implicit_stages(job) if isinstance(one.settings, Data))):
        if isinstance(data.source, str) and _is_hub_id(data.source):
            yield _known("data", "dataset", data.source, data.revision)
    for corpus in (one.settings for one in implicit_stages(job) if isinstance(one.settings, CorpusSource)):
        yield from (_known("corpus", "dataset", one, corpus.revision) for one in corpus.sources if _is_hub_id(one))


def _is_hub_id(address: str) -> bool:
    return "://" not in address and not local_files.is_local(address)


def _known(about: str, kind: str, name: str, revision: str) -> Finding:
    try:
        commit = HfApi().repo_info(name, revision=revision, repo_type=kind).sha
    except Exception as error:  # of httpx, of the hub's library, of whatever answers in its place
        if said := refusal(error, name, kind):
            found, _, remedy = said.partition("; ")
            return Finding(about, f"{name} at revision {revision}: {found}", "problem", remedy)
        return Finding(about, f"{name}: {reason(error)}", "warning", "without the hub, give a folder, file or s3://")
    return Finding(about, f"{name}: on the hub, at commit {str(commit)[:12]}")
