"""Rendering options: container image, store, GPUs, and other settings that differ between clusters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ftjobs.errors import UserError

#: A reference with a tag or a digest: `[registry[:port]/]path:tag` or `…@sha256:…`.
_IMAGE = re.compile(
    r"(?P<name>(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSWORD|CREDENTIAL", re.IGNORECASE)
_QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGT]i?)?")
#: Variables that other options set.
_RESERVED = ("FTJOBS_STORE", "FTJOBS_TERMINATION_LOG")


@dataclass(frozen=True)
class Options:
    """Validated settings of a rendered pipeline.

    Raises:
        UserError: every value that no cluster could use.
    """

    image: str
    """The container image, with a tag or a digest."""
    store: str
    """`s3://bucket/prefix`."""
    gpus: int = 0
    """GPUs per pod of a training stage; one process per GPU."""
    nodes: int = 1
    """Pods per seed of a training stage."""
    namespace: str | None = None
    """Namespace in the metadata of every object; None leaves it to `kubectl apply`."""
    queue: str | None = None
    """Kueue LocalQueue of the stages."""
    memory: str | None = None
    """Memory request and limit of a training pod; None: request 2Gi, limit 16Gi."""
    environment: dict[str, str] = field(default_factory=dict)
    """Additional environment variables of every container."""

    def __post_init__(self) -> None:
        problems = [
            *_image_problems(self.image),
            *_store_problems(self.store),
            *_name_problems("--namespace", self.namespace),
            *_name_problems("--kueue-queue", self.queue),
        ]
        if self.memory is not None and not _QUANTITY.fullmatch(self.memory):
            problems.append(f"--memory {self.memory}: not a Kubernetes quantity; use a value like 8Gi")
        for name in self.environment:
            problems += _variable_problems(name)
        if problems:
            raise UserError(problems)


def parse_environment(assignments: Sequence[str]) -> dict[str, str]:
    """Parse `NAME=VALUE` assignments.

    Raises:
        UserError: an assignment has no `=`.
    """
    pairs = [assignment.partition("=") for assignment in assignments]
    problems = [f"--env {name}: expected NAME=VALUE" for name, equals, _ in pairs if not equals]
    if problems:
        raise UserError(problems)
    return {name: value for name, _, value in pairs}


def _image_problems(image: str) -> list[str]:
    match = _IMAGE.fullmatch(image)
    if not match:
        return [f"--image {image}: not an image reference; use registry/name:tag or name@sha256:digest"]
    if match["digest"] or match["tag"] not in (None, "latest"):
        return []
    problem = "the tag `latest` changes over time" if match["tag"] else "has no tag"
    return [f"--image {image}: {problem}; use a version, such as {match['name']}:0.1.0, or a digest"]


def _store_problems(store: str) -> list[str]:
    if not store.startswith("s3://"):
        return [f"--store {store}: pods on different nodes share no folder; use s3://bucket/prefix"]
    if not store.removeprefix("s3://").partition("/")[0]:
        return [f"--store {store}: has no bucket; use s3://bucket/prefix"]
    return []


def _name_problems(option: str, name: str | None) -> list[str]:
    if name is None or _LABEL.fullmatch(name):
        return []
    return [
        f"{option} {name}: not a DNS label; use at most 63 lower-case letters, digits and dashes, without a dash at "
        "either end"
    ]


def _variable_problems(name: str) -> list[str]:
    if not _VARIABLE.fullmatch(name):
        return [f"--env {name}: not a variable name; use letters, digits and _"]
    if name in _RESERVED:
        return [f"--env {name}: is set by ftjobs; use --store for the store"]
    if _SECRET.search(name):
        return [f"--env {name}: manifests must not hold secrets; use the Secret ftjobs-s3, ftjobs-wandb or ftjobs-hf"]
    return []
