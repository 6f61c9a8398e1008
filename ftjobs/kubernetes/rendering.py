"""A job and a user's options to manifests, and manifests to text."""

from __future__ import annotations

from collections.abc import Callable

from ftjobs.jobfile import yaml_text
from ftjobs.jobfile.fields import Job
from ftjobs.kubernetes.jobset import jobset_engine
from ftjobs.kubernetes.manifests import Pipeline, jobs_engine, pipeline_of
from ftjobs.kubernetes.objects import Manifest
from ftjobs.kubernetes.options import Options

#: What runs a pipeline, by the name it has in `--engine`.
ENGINES: dict[str, Callable[[Pipeline], list[Manifest]]] = {"jobs": jobs_engine, "jobset": jobset_engine}


def render(job: Job, options: Options, engine: str = "jobs") -> list[Manifest]:
    """Everything that one pipeline needs on a cluster, in the order to create it. The same job gives the same.

    Raises:
        UserError: the job cannot run in a cluster as it is.
    """
    return ENGINES[engine](pipeline_of(job, options))


def as_yaml(manifests: list[Manifest], job: Job) -> str:
    """The manifests as one stream of YAML documents."""
    intent = f"# Pipeline {job.name}, as `ftjobs render` prints it. Change the job file and render it again.\n"
    return intent + "---\n".join(yaml_text.dump(manifest) for manifest in manifests)
