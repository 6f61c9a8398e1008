"""Objects of a namespace: get, apply and delete any object for `submit`; list, patch and watch Jobs for the controller.

Responses are parsed as JSON: only a few fields are needed, and the models of the official client would validate all.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes.cluster_client import ERRORS, TIMEOUTS, ClusterClient, explain
from ftjobs.kubernetes.pods import Manifest
from ftjobs.kubernetes.reconcile import JobState
from ftjobs.kubernetes.stage_jobs import PIPELINE, STAGE
from ftjobs.system.progress import LOG

#: Field managers, under which the API server records who set a field.
SUBMIT_MANAGER, CONTROLLER_MANAGER = "ftjobs", "ftjobs-conductor"
#: Seconds until the next pass after a change, because changes come in groups; and after a watch that ended early.
AFTER_CHANGE, AFTER_FAILURE = 0.5, 5.0
_APPLY_PATCH = "application/apply-patch+yaml"  # JSON is valid YAML
_API_METHODS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "ServiceAccount": (client.CoreV1Api, "service_account"),
    "ConfigMap": (client.CoreV1Api, "config_map"),
    "Service": (client.CoreV1Api, "service"),
    "Role": (client.RbacAuthorizationV1Api, "role"),
    "RoleBinding": (client.RbacAuthorizationV1Api, "role_binding"),
    "Job": (client.BatchV1Api, "job"),
}


class ApiObjects:
    """The objects of one namespace; errors are raised without a retry."""

    def __init__(self, cluster: ClusterClient) -> None:
        self.namespace = cluster.namespace
        self._server, self._client = cluster.server, cluster.batch.api_client

    def get(self, manifest: Manifest) -> Manifest | None:
        """Return the object with the manifest's kind and name, None if there is none."""
        try:
            return self._request("get", manifest)
        except KeyError:
            return None

    def apply(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Create or update an object by server-side apply, and return the server's version of it.

        Fields that other field managers have set are overwritten
        (https://kubernetes.io/docs/reference/using-api/server-side-apply/).
        """
        arguments: dict[str, Any] = {"field_manager": SUBMIT_MANAGER, "force": True, "_content_type": _APPLY_PATCH}
        if dry_run:
            arguments["dry_run"] = "All"
        try:
            return self._request("patch", manifest, manifest, **arguments)
        except KeyError as error:  # apply creates missing objects, so 404 refers to the namespace or the kind
            if manifest["kind"] == "JobSet" and "namespaces" not in str(error.args[0]):
                raise UserError(
                    f"{self._server}: has no JobSet controller; install it, or use --engine jobs"
                ) from error
            raise UserError(
                f"{self._server}: has no namespace {self.namespace}; create it with `kubectl create namespace "
                f"{self.namespace}`, or set another with --namespace"
            ) from error

    def delete(self, manifest: Manifest) -> None:
        """Delete the object and, in the background, its pods; a missing object is no error."""
        try:
            self._request("delete", manifest, propagation_policy="Background")
        except KeyError:
            return

    def jobs(self, selector: str) -> list[Manifest]:
        """Return the Jobs that match a label selector."""
        batch = client.BatchV1Api(self._client)
        jobs: list[Manifest] = self._send(
            "list jobs", batch.list_namespaced_job, self.namespace, label_selector=selector
        )["items"]
        return jobs

    def _request(self, verb: str, manifest: Manifest, *body: Manifest, **arguments: Any) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        if kind in _API_METHODS:
            api, noun = _API_METHODS[kind]
            method = getattr(api(self._client), f"{'read' if verb == 'get' else verb}_namespaced_{noun}")
            path: tuple[str, ...] = (name, self.namespace)
        else:
            method = getattr(client.CustomObjectsApi(self._client), f"{verb}_namespaced_custom_object")
            group, version = manifest["apiVersion"].split("/")
            path = (group, version, self.namespace, f"{kind.lower()}s", name)
        response: Manifest = self._send(f"{verb} {kind} {name}", method, *path, *body, **arguments)
        return response

    def _send(self, action: str, method: Callable[..., Any], *path: Any, **arguments: Any) -> Any:
        """Send a request and return the JSON of its response.

        Raises:
            KeyError: no such object (404).
            UserError: not permitted or not valid.
            FtjobsError: the server is unreachable or fails.
        """
        try:
            return json.loads(method(*path, **arguments, _preload_content=False, _request_timeout=TIMEOUTS).data)
        except ERRORS as error:
            status = getattr(error, "status", None)
            reason = explain(error)
            if status == 404:
                raise KeyError(reason) from error
            problem = f"{action} in namespace {self.namespace} at {self._server}: {reason}"
            if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
                raise UserError(problem) from error
            raise FtjobsError(problem) from error


@dataclass(frozen=True)
class JobList:
    """All Jobs of a pipeline at one resource version."""

    jobs: Mapping[str, JobState]
    """By name, without Jobs that are being deleted."""
    resource_version: str
    """Where a watch starts."""


class PipelineJobs:
    """The Jobs of one pipeline in one namespace; requests are retried as `ClusterClient.call` does."""

    def __init__(self, cluster: ClusterClient, pipeline: str) -> None:
        self.cluster, self.pipeline = cluster, pipeline
        self._may_watch = True

    def list(self) -> JobList:
        """List the Jobs of the pipeline's stages, also those of other versions of the job file.

        Raises:
            UserError, FtjobsError: as `ClusterClient.call`.
        """

        def request() -> Any:
            return self.cluster.batch.list_namespaced_job(
                **self._selection(), _request_timeout=TIMEOUTS, _preload_content=False
            )

        try:
            response = self.cluster.call("list jobs", request)
        except KeyError as error:
            raise UserError(
                f"{self.cluster.server}: has no Jobs API; set the API server of a cluster with KUBECONFIG or --context"
            ) from error
        states = [JobState.from_json(job) for job in response["items"]]
        return JobList({state.name: state for state in states if state}, response["metadata"]["resourceVersion"])

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Merge `patch` into a Job; a Job deleted in the meantime is logged."""

        def request() -> Any:
            return self.cluster.batch.patch_namespaced_job(
                name,
                self.cluster.namespace,
                patch,
                field_manager=CONTROLLER_MANAGER,
                _content_type="application/merge-patch+json",
                _request_timeout=TIMEOUTS,
                _preload_content=False,
            )

        try:
            self.cluster.call(f"patch job {name}", request)
        except KeyError:
            LOG.info("job %s was deleted in the meantime", name)

    def wait(self, known: JobList, seconds: float) -> None:
        """Wait until a Job differs from `known`, was added or deleted; for at most `seconds`."""
        end = time.monotonic() + seconds
        pause = AFTER_FAILURE
        try:
            if self._may_watch and self._has_changed(known, seconds):
                pause = AFTER_CHANGE
        except ERRORS as error:
            if getattr(error, "status", None) == 403:
                self._may_watch = False
                LOG.warning("%s; without a watch, changes are detected later", explain(error))
            else:
                LOG.debug("the watch ended: %s", explain(error))
        remaining = end - time.monotonic()
        time.sleep(max(0.0, min(pause, remaining) if self._may_watch else remaining))

    def _has_changed(self, known: JobList, seconds: float) -> bool:
        """Watch until a Job differs, which is True, or the server ends the watch."""
        # Not the client's Watch class: it restarts by itself, and in 37.0 raises KeyError on 410 Gone.
        lines: Any = self.cluster.batch.list_namespaced_job(
            **self._selection(),
            watch=True,
            resource_version=known.resource_version,
            timeout_seconds=math.ceil(seconds),
            _request_timeout=(TIMEOUTS[0], math.ceil(seconds) + TIMEOUTS[1]),
            _preload_content=False,
        )
        with closing(lines):
            for event in map(json.loads, lines):
                if event["type"] == "ERROR":  # such as 410: the resource version has expired
                    return False
                job = event["object"]
                state = None if event["type"] == "DELETED" else JobState.from_json(job)
                if state != known.jobs.get(job["metadata"]["name"]):
                    return True
        return False

    def _selection(self) -> dict[str, Any]:
        selector = f"{PIPELINE}={self.pipeline},{STAGE}"  # the controller's Job has no stage label
        return {"namespace": self.cluster.namespace, "label_selector": selector}
