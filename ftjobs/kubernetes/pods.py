"""Pod specs of a pipeline, compliant with the `restricted` Pod Security level.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftjobs.kubernetes.job_bundle import FILES_FOLDER, JOB_FOLDER
from ftjobs.kubernetes.options import Options

Manifest = dict[str, Any]
#: ServiceAccounts, shared by all pipelines of a namespace, so that cloud roles are bound to them only once.
STAGE_ACCOUNT, CONTROLLER_ACCOUNT = "ftjobs-stage", "ftjobs-conductor"
CONTAINER = "ftjobs"
GPU = "nvidia.com/gpu"
ARCHIVE_FILE = "files.tar.bz2"
TERMINATION_LOG = "/dev/termination-log"
#: Optional Secrets with environment variables: credentials of the store, of Weights & Biases, and of the hub.
STORE_SECRET, STAGE_SECRETS = "ftjobs-s3", ("ftjobs-s3", "ftjobs-wandb", "ftjobs-hf")
_ARCHIVE_FOLDER = "/packed"
#: As in docker/Dockerfile.
_USER = 10001
#: Seconds between SIGTERM and SIGKILL, enough to finish a step and upload the training state.
_SECONDS_TO_SAVE = 120
#: With NVIDIA's container runtime as the default, pods without a GPU request would otherwise see every GPU of the node.
_NO_GPU = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Sources:
    """Names of the ConfigMaps that hold a pod's files and variables."""

    job: str
    files: str | None
    settings: str


def stage_pod(options: Options, arguments: list[str], trains: bool, sources: Sources) -> Manifest:
    """Return the spec of a stage's pod; only training stages get GPUs."""
    gpus = options.gpus if trains else 0
    container = _container(options, arguments, _resources(options, trains), sources, STAGE_SECRETS)
    container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})
    if gpus:
        # A string, as the API server normalizes it: another spelling would count as a change of the template.
        container["resources"]["limits"][GPU] = str(gpus)
    else:
        container["env"].append(_NO_GPU)
    volumes = [*_volumes(sources), {"name": "shared-memory", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}}]
    return {
        "serviceAccountName": STAGE_ACCOUNT,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": _SECONDS_TO_SAVE,
        **_pod(options, container, volumes, unpacks=sources.files is not None),
        **({"tolerations": [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]} if gpus else {}),
    }


def controller_pod(options: Options, arguments: list[str], sources: Sources) -> Manifest:
    """Return the spec of the controller's pod, the only one with access to the API server."""
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    container = _container(options, arguments, resources, sources, (STORE_SECRET,))
    container["env"].append(_NO_GPU)
    return {
        "serviceAccountName": CONTROLLER_ACCOUNT,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 10,
        **_pod(options, container, _volumes(sources), unpacks=sources.files is not None),
    }


def join_pod(options: Options) -> Manifest:
    """Return the spec of a no-op pod; its completion shows that all dependencies of its JobSet entry are complete."""
    container = {
        "name": CONTAINER,
        "image": options.image,
        "command": ["true"],
        "env": [_NO_GPU],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": _SECURITY,
    }
    account = {"serviceAccountName": STAGE_ACCOUNT, "automountServiceAccountToken": False}
    return account | _pod(options, container, [], unpacks=False)


def _pod(options: Options, container: Manifest, volumes: list[Manifest], unpacks: bool) -> Manifest:
    return {
        "restartPolicy": "Never",
        "enableServiceLinks": False,  # no variables named after Services, which could clash with ours
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": [_unpack_container(options)]} if unpacks else {}),
        "containers": [container],
        **({"volumes": volumes} if volumes else {}),
    }


def _container(
    options: Options, arguments: list[str], resources: Manifest, sources: Sources, secrets: tuple[str, ...]
) -> Manifest:
    mounts = [{"name": "job", "mountPath": JOB_FOLDER, "readOnly": True}]
    if sources.files:
        mounts.append({"name": "files", "mountPath": FILES_FOLDER, "readOnly": True})
    mounts += [{"name": name, "mountPath": f"/{name}"} for name in ("scratch", "cache", "tmp")]
    return {
        "name": CONTAINER,
        "image": options.image,
        "args": arguments,
        "env": [{"name": "FTJOBS_TERMINATION_LOG", "value": TERMINATION_LOG}],
        "envFrom": [
            {"configMapRef": {"name": sources.settings}},
            *({"secretRef": {"name": name, "optional": True}} for name in secrets),
        ],
        "resources": resources,
        "securityContext": _SECURITY,
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _unpack_container(options: Options) -> Manifest:
    """Return the init container that unpacks the job's data files; unpacked, they would exceed the size limit of
    `kubectl apply`."""
    command = ["python3", "-m", "tarfile", "--extract", f"{_ARCHIVE_FOLDER}/{ARCHIVE_FILE}", FILES_FOLDER]
    return {
        "name": "unpack",
        "image": options.image,
        "command": command,
        "env": [_NO_GPU],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": _SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "packed", "mountPath": _ARCHIVE_FOLDER, "readOnly": True},
            {"name": "files", "mountPath": FILES_FOLDER},
        ],
    }


def _volumes(sources: Sources) -> list[Manifest]:
    volumes: list[Manifest] = [{"name": "job", "configMap": {"name": sources.job}}]
    if sources.files:
        volumes += [{"name": "packed", "configMap": {"name": sources.files}}, {"name": "files", "emptyDir": {}}]
    return [*volumes, *({"name": name, "emptyDir": {}} for name in ("scratch", "cache", "tmp"))]


def _resources(options: Options, trains: bool) -> Manifest:
    """Return small requests and no CPU limit: stages use idle CPUs, and many of them fit on one node."""
    if not trains:
        return {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "8Gi"}}
    return {
        "requests": {"cpu": "500m", "memory": options.memory or "2Gi"},
        "limits": {"memory": options.memory or "16Gi"},
    }
