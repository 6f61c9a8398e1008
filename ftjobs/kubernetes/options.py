"""What a user says about the cluster: image, store, GPUs, and what else differs from one cluster to the next."""

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
_OWN = ("FTJOBS_STORE", "FTJOBS_TERMINATION_LOG")


@dataclass(frozen=True)
class Options:
    """Settings of a rendered pipeline. Raises UserError with every one that no cluster could work with."""

    image: str
    """The container image, with a tag or a digest."""
    store: str
    """`s3://bucket/prefix`."""
    gpus: int = 0
    """GPUs of each pod of a stage that trains; one process each."""
    nodes: int = 1
    """Pods that run each seed of a stage that trains together."""
    namespace: str | None = None
    """Written into every object; None leaves it to whoever applies them."""
    queue: str | None = None
    """Kueue's LocalQueue that the stages go through."""
    memory: str | None = None
    """Memory of a pod that trains, requested and limited; None: 2Gi requested, 16Gi at most."""
    environment: dict[str, str] = field(default_factory=dict)
    """More variables for every container."""

    def __post_init__(self) -> None:
        problems = [
            *_image_problems(self.image),
            *_store_problems(self.store),
            *_name_problems("--namespace", self.namespace),
            *_name_problems("--kueue-queue", self.queue),
        ]
        if self.memory is not None and not _QUANTITY.fullmatch(self.memory):
            problems.append(f"--memory {self.memory}: is no amount of memory; give one such as 8Gi")
        for name in self.environment:
            problems += _variable_problems(name)
        if problems:
            raise UserError(problems)


def environment(given: Sequence[str]) -> dict[str, str]:
    """Variables from `NAME=VALUE`; UserError where one is not of that form."""
    pairs = [one.partition("=") for one in given]
    problems = [f"--env {name}: give NAME=VALUE" for name, equals, _ in pairs if not equals]
    if problems:
        raise UserError(problems)
    return {name: value for name, _, value in pairs}


def _image_problems(image: str) -> list[str]:
    found = _IMAGE.fullmatch(image)
    if not found:
        return [f"--image {image}: is no image; give registry/name:tag, or name@sha256:digest"]
    if found["digest"] or found["tag"] not in (None, "latest"):
        return []
    what = "`latest` is another image tomorrow" if found["tag"] else "has no tag"
    return [f"--image {image}: {what}; give a version, as in {found['name']}:0.1.0, or a digest"]


def _store_problems(store: str) -> list[str]:
    if not store.startswith("s3://"):
        return [f"--store {store}: pods on several machines share no folder; give s3://bucket/prefix"]
    if not store.removeprefix("s3://").partition("/")[0]:
        return [f"--store {store}: names no bucket; give s3://bucket/prefix"]
    return []


def _name_problems(option: str, name: str | None) -> list[str]:
    if name is None or _LABEL.fullmatch(name):
        return []
    return [f"{option} {name}: should be lower-case letters, digits and dashes, at most 63, not a dash at either end"]


def _variable_problems(name: str) -> list[str]:
    if not _VARIABLE.fullmatch(name):
        return [f"--env {name}: is no name of a variable; use letters, digits and _"]
    if name in _OWN:
        return [f"--env {name}: is set by ftjobs; the store is --store"]
    if _SECRET.search(name):
        return [f"--env {name}: secrets do not belong into manifests; put it into the Secret ftjobs-s3, -wandb or -hf"]
    return []
