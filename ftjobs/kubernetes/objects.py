"""The objects around the Jobs of a pipeline: their metadata, ConfigMaps, and what the conductor may do."""

from __future__ import annotations

import base64
from typing import Any

from ftjobs.kubernetes.options import Options
from ftjobs.kubernetes.stage_jobs import IDENTITY, NEEDS, PIPELINE, SEED, STAGE, StageJob

Manifest = dict[str, Any]
#: ServiceAccounts, the same for every pipeline of a namespace, so that a cloud's roles are bound to them once.
STAGE_ACCOUNT, CONDUCTOR_ACCOUNT = "ftjobs-stage", "ftjobs-conductor"
CONDUCTOR = "conductor"
#: The Service by which pods that run a stage together find each other, the same for every pipeline of a namespace.
MACHINES = "ftjobs-machines"


def labels(pipeline: str | None, component: str, stage: str | None = None) -> dict[str, str]:
    """Labels of an object: of a pipeline, or None for what pipelines share."""
    found = {"app.kubernetes.io/name": "ftjobs", "app.kubernetes.io/component": component}
    if pipeline is not None:
        found |= {"app.kubernetes.io/instance": pipeline, PIPELINE: pipeline}
    if stage is not None:
        found[STAGE] = stage
    return found | {"app.kubernetes.io/managed-by": "ftjobs"}


def stage_labels(stage: StageJob) -> dict[str, str]:
    """Labels of a stage's Job and its pods."""
    seed = {SEED: str(stage.runs[0].seed)} if stage.is_of_one_seed else {}
    return labels(stage.pipeline, stage.kind, stage.stage) | seed


def stage_notes(stage: StageJob) -> dict[str, str]:
    """What a stage's Job says about itself: its identity, and the stages it waits for."""
    return {IDENTITY: stage.identity, NEEDS: ",".join(stage.needs)}


def config_map(name: str, marks: dict[str, str], data: dict[str, str | bytes], immutable: bool = False) -> Manifest:
    """A ConfigMap of texts and bytes."""
    manifest: Manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": marks}}
    if immutable:
        manifest["immutable"] = True
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    binary = {key: base64.b64encode(value).decode() for key, value in data.items() if isinstance(value, bytes)}
    return manifest | ({"data": texts} if texts else {}) | ({"binaryData": binary} if binary else {})


def settings(name: str, pipeline: str, options: Options) -> Manifest:
    """Variables of every container: the one place that says where the store is."""
    return config_map(
        name, labels(pipeline, "settings"), {"FTJOBS_STORE": options.store, **dict(sorted(options.environment.items()))}
    )


def accounts(*names: str) -> list[Manifest]:
    """ServiceAccounts. Pods say for themselves whether they want a token."""
    return [
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": name, "labels": labels(None, name.removeprefix("ftjobs-"))},
            "automountServiceAccountToken": False,
        }
        for name in names
    ]


def machines_service() -> Manifest:
    """A headless Service: the DNS name of a pod is `<its Job>-<its index>.<this>`, from before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": MACHINES, "labels": labels(None, "machines")},
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {"app.kubernetes.io/name": "ftjobs", "app.kubernetes.io/managed-by": "ftjobs"},
        },
    }


def conductor_rights() -> list[Manifest]:
    """The Role of the conductor and its binding: in its own namespace, read Jobs and patch them."""
    metadata = {"name": CONDUCTOR_ACCOUNT, "labels": labels(None, CONDUCTOR)}
    rule = {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "patch"]}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": [rule]}
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": CONDUCTOR_ACCOUNT},
        # Without a namespace: in a RoleBinding it is the binding's own.
        "subjects": [{"kind": "ServiceAccount", "name": CONDUCTOR_ACCOUNT}],
    }
    return [role, binding]


def in_namespace(manifest: Manifest, namespace: str | None) -> Manifest:
    """The manifest, with a namespace in its metadata if there is one."""
    if namespace is None:
        return manifest
    metadata = manifest["metadata"]
    return manifest | {"metadata": {"name": metadata["name"], "namespace": namespace, **metadata}}
