"""The pods of a pipeline, as the `restricted` Pod Security level wants them.

https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from dataclasses import dataclass

from ftjobs.kubernetes.job_bundle import FILES_FOLDER, JOB_FOLDER
from ftjobs.kubernetes.objects import CONDUCTOR_ACCOUNT, STAGE_ACCOUNT, Manifest
from ftjobs.kubernetes.options import Options

CONTAINER = "ftjobs"
GPU = "nvidia.com/gpu"
PACKED_FILE = "files.tar.bz2"
TERMINATION_LOG = "/dev/termination-log"
#: Secrets that a container's variables come from where they exist: keys to the store; to Weights & Biases and the hub.
STORE_SECRET, STAGE_SECRETS = "ftjobs-s3", ("ftjobs-s3", "ftjobs-wandb", "ftjobs-hf")
_PACKED_FOLDER = "/packed"
#: As in docker/Dockerfile.
_USER = 10001
#: Seconds from SIGTERM to SIGKILL: time to finish a step and to upload training state.
_SECONDS_TO_SAVE = 120
#: Where NVIDIA's is the default container runtime, it shows every GPU of a node to pods that asked for none.
_NO_GPU = {"name": "NVIDIA_VISIBLE_DEVICES", "value": "void"}
_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class Sources:
    """Names of the ConfigMaps that a pod's files and variables come from."""

    job: str
    files: str | None
    settings: str


def stage_pod(options: Options, arguments: list[str], trains: bool, sources: Sources) -> Manifest:
    """Spec of a stage's pod; only stages that train get GPUs."""
    gpus = options.gpus if trains else 0
    container = _container(options, arguments, _resources(options, trains), sources, STAGE_SECRETS)
    container["volumeMounts"].append({"name": "shared-memory", "mountPath": "/dev/shm"})
    if gpus:
        # As the API server writes it: another spelling would be a change of the template.
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


def conductor_pod(options: Options, arguments: list[str], sources: Sources) -> Manifest:
    """Spec of the conductor's pod: the one that talks to the API server."""
    resources = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}}
    container = _container(options, arguments, resources, sources, (STORE_SECRET,))
    container["env"].append(_NO_GPU)
    return {
        "serviceAccountName": CONDUCTOR_ACCOUNT,
        "automountServiceAccountToken": True,
        "terminationGracePeriodSeconds": 10,
        **_pod(options, container, _volumes(sources), unpacks=sources.files is not None),
    }


def join_pod(options: Options) -> Manifest:
    """Spec of a pod that does nothing: its end says that what it waited for is complete."""
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
        "enableServiceLinks": False,  # variables named after Services, some of which could be taken for ours
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "fsGroup": _USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **({"initContainers": [_unpack(options)]} if unpacks else {}),
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


def _unpack(options: Options) -> Manifest:
    """Puts the job's own data files where the job file says. Unpacked, they would be too large to apply."""
    command = ["python3", "-m", "tarfile", "--extract", f"{_PACKED_FOLDER}/{PACKED_FILE}", FILES_FOLDER]
    return {
        "name": "unpack",
        "image": options.image,
        "command": command,
        "env": [_NO_GPU],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": _SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "packed", "mountPath": _PACKED_FOLDER, "readOnly": True},
            {"name": "files", "mountPath": FILES_FOLDER},
        ],
    }


def _volumes(sources: Sources) -> list[Manifest]:
    volumes: list[Manifest] = [{"name": "job", "configMap": {"name": sources.job}}]
    if sources.files:
        volumes += [{"name": "packed", "configMap": {"name": sources.files}}, {"name": "files", "emptyDir": {}}]
    return [*volumes, *({"name": name, "emptyDir": {}} for name in ("scratch", "cache", "tmp"))]


def _resources(options: Options, trains: bool) -> Manifest:
    """Small requests and no limit of CPU: a stage uses what is idle, and many fit on one machine to take turns."""
    if not trains:
        return {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"memory": "8Gi"}}
    return {
        "requests": {"cpu": "500m", "memory": options.memory or "2Gi"},
        "limits": {"memory": options.memory or "16Gi"},
    }
