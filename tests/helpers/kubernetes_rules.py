"""Validation rules of Kubernetes beyond its schemas, as checks of plain manifests, with their sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]
DNS_1123_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_1035_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_QUALIFIED_NAME = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
#: TotalAnnotationSizeLimitB in staging/src/k8s.io/apimachinery/pkg/api/validation/objectmeta.go; `kubectl apply` stores
#: the whole object in an annotation.
MOST_APPLIED = 256 * 1024
#: MaxSecretSize in pkg/apis/core/types.go, for ConfigMaps too.
MOST_CONFIG_MAP = 1024 * 1024


def pods(manifest: Manifest) -> Iterator[Manifest]:
    """Every pod spec in a manifest."""
    if manifest["kind"] in ("Job", "Deployment"):
        yield manifest["spec"]["template"]["spec"]
    elif manifest["kind"] == "JobSet":
        for entry in manifest["spec"]["replicatedJobs"]:
            yield entry["template"]["spec"]["template"]["spec"]


def metadata_problems(metadata: Manifest) -> Iterator[str]:
    """ValidateObjectMeta: names, labels and keys of annotations."""
    for key, value in metadata.get("labels", {}).items():
        if not _QUALIFIED_NAME.fullmatch(key) or not _LABEL_VALUE.fullmatch(value):
            yield f"label {key}: {value}"
    for key, value in metadata.get("annotations", {}).items():
        if not _QUALIFIED_NAME.fullmatch(key) or not isinstance(value, str):
            yield f"annotation {key}: {value}"


def job_problems(name: str, spec: Manifest) -> Iterator[str]:
    """ValidateJob, validateJobSpec, validatePodFailurePolicy, validatePodReplacementPolicy in
    pkg/apis/batch/validation/validation.go."""
    indexed = spec.get("completionMode") == "Indexed"
    if indexed:
        if spec.get("completions") is None:
            yield "completions are required when completionMode is Indexed"
        host = f"{name}-{spec['completions'] - 1}"
        if not DNS_1123_LABEL.fullmatch(host):
            yield f"{host} is no DNS label"
    elif not DNS_1123_LABEL.fullmatch(name):  # a value of the label batch.kubernetes.io/job-name
        yield f"{name} is too long for a label"
    if not indexed and ("backoffLimitPerIndex" in spec or "maxFailedIndexes" in spec):
        yield "backoffLimitPerIndex requires Indexed"
    if "maxFailedIndexes" in spec and "backoffLimitPerIndex" not in spec:
        yield "maxFailedIndexes requires backoffLimitPerIndex"
    if "selector" in spec:
        yield "the selector is generated"
    pod = spec["template"]["spec"]
    policy = spec.get("podFailurePolicy")
    if pod["restartPolicy"] not in (["Never"] if policy else ["Never", "OnFailure"]):
        yield f"restartPolicy {pod['restartPolicy']}"
    if policy and spec.get("podReplacementPolicy", "Failed") != "Failed":
        yield "podFailurePolicy allows podReplacementPolicy Failed only"
    names = {container["name"] for container in [*pod["containers"], *pod.get("initContainers", [])]}
    rules = policy["rules"] if policy else []
    if len(rules) > 20:
        yield "more than 20 rules"
    for rule in rules:
        yield from _rule_problems(rule, names, "backoffLimitPerIndex" in spec)


def _rule_problems(rule: Manifest, containers: set[str], per_index: bool) -> Iterator[str]:
    actions = {"FailJob", "Ignore", "Count", *(["FailIndex"] if per_index else [])}
    if rule["action"] not in actions:
        yield f"action {rule['action']}"
    if ("onExitCodes" in rule) == ("onPodConditions" in rule):
        yield "a rule needs one of onExitCodes and onPodConditions"
    codes = rule.get("onExitCodes")
    if codes:
        values = codes["values"]
        if codes["operator"] not in ("In", "NotIn") or not 1 <= len(values) <= 255:
            yield f"onExitCodes {codes}"
        if values != sorted(set(values)) or (codes["operator"] == "In" and 0 in values):
            yield f"values {values} must be ordered, each once, and not 0"
        if codes.get("containerName", next(iter(containers))) not in containers:
            yield f"no container {codes['containerName']}"
    for condition in rule.get("onPodConditions", []):
        if condition.get("status") not in ("True", "False", "Unknown"):
            yield f"status of {condition}"


def pod_problems(pod: Manifest) -> Iterator[str]:
    """ValidatePodSpec in pkg/apis/core/validation/validation.go: references within a pod spec."""
    volumes = [volume["name"] for volume in pod.get("volumes", [])]
    if len(set(volumes)) < len(volumes):
        yield "a volume's name twice"
    for container in [*pod["containers"], *pod.get("initContainers", [])]:
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(set(paths)) < len(paths):
            yield "a mountPath twice"
        yield from (f"mount of {m['name']}" for m in container.get("volumeMounts", []) if m["name"] not in volumes)
        variables = [variable["name"] for variable in container.get("env", [])]
        if len(set(variables)) < len(variables):
            yield "a variable twice"
        resources = container.get("resources", {})
        for name, value in resources.get("limits", {}).items():
            requested = resources.get("requests", {}).get(name, value)
            if "/" in name and requested != value:  # an extended resource cannot be overcommitted
                yield f"request of {name}"


def restricted_problems(pod: Manifest) -> Iterator[str]:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/, levels baseline and restricted."""
    for field in ("hostNetwork", "hostPID", "hostIPC", "hostUsers"):
        if pod.get(field):
            yield field
    security = pod.get("securityContext", {})
    if security.get("sysctls") or security.get("windowsOptions"):
        yield "sysctls or windowsOptions"
    allowed = (
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    )
    for volume in pod.get("volumes", []):
        if set(volume) - {"name"} - set(allowed):
            yield f"volume {volume}"
    for container in [*pod["containers"], *pod.get("initContainers", []), *pod.get("ephemeralContainers", [])]:
        yield from (f"{container['name']}: {problem}" for problem in _container_problems(container, security))


def _container_problems(container: Manifest, pod_security: Manifest) -> Iterator[str]:
    context = container.get("securityContext", {})
    if context.get("privileged") or context.get("procMount", "Default") != "Default":
        yield "privileged or procMount"
    if context.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if context.get("runAsNonRoot", pod_security.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if context.get("runAsUser", pod_security.get("runAsUser")) == 0:
        yield "runAsUser"
    profile = context.get("seccompProfile", pod_security.get("seccompProfile", {}))
    if profile.get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"


def jobset_problems(manifest: Manifest) -> Iterator[str]:
    """ValidateCreate in pkg/webhooks/jobset_webhook.go and the markers in api/jobset/v1alpha2/jobset_types.go of
    kubernetes-sigs/jobset."""
    name, spec = manifest["metadata"]["name"], manifest["spec"]
    known = {"replicatedJobs", "network", "successPolicy", "failurePolicy", "startupPolicy", "suspend"}
    yield from (f"field {key}" for key in set(spec) - known - {"coordinator", "managedBy", "ttlSecondsAfterFinished"})
    if "startupPolicy" in spec and any("dependsOn" in entry for entry in spec["replicatedJobs"]):
        yield "startupPolicy and dependsOn exclude each other"
    before: list[str] = []
    for entry in spec["replicatedJobs"]:
        yield from (f"field {key}" for key in set(entry) - {"name", "groupName", "template", "replicas", "dependsOn"})
        depends_on = entry.get("dependsOn")
        if not before and depends_on is not None:
            yield "the first entry has dependsOn"
        if depends_on is not None and len(depends_on) > 5:
            yield f"{entry['name']} depends on {len(depends_on)}"
        for dependency in depends_on or []:
            name_and_status = len(dependency) == 2 and dependency["status"] in ("Ready", "Complete")
            if dependency["name"] not in before or not name_and_status:
                yield f"{entry['name']} depends on {dependency}"
        if entry["name"] in before:
            yield f"{entry['name']} twice"
        before.append(entry["name"])
        job = entry["template"]["spec"]
        highest = entry.get("replicas", 1) - 1
        names = [f"{name}-{entry['name']}-{highest}"]
        if "completions" in job:
            names.append(f"{names[0]}-{job['completions'] - 1}-abcde")
        yield from (f"{label} is no DNS label" for label in names if not DNS_1035_LABEL.fullmatch(label))
        # The webhook sets completionMode Indexed by default.
        yield from job_problems(names[0], {"completionMode": "Indexed", **job})
        yield from metadata_problems(entry["template"].get("metadata", {}))
