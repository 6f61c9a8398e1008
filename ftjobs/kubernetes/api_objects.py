"""Objects on a cluster, whatever their kind: get, apply, delete, list Jobs. Errors of the API server in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from kubernetes import client

from ftjobs.errors import FtjobsError, UserError
from ftjobs.kubernetes.connection import ERRORS, TIMEOUTS, Connection, explain
from ftjobs.kubernetes.objects import Manifest

#: Who the API server says has set the fields that were applied.
FIELD_MANAGER = "ftjobs"
_APPLY = "application/apply-patch+yaml"  # JSON is YAML too
_NOUNS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "ServiceAccount": (client.CoreV1Api, "service_account"),
    "ConfigMap": (client.CoreV1Api, "config_map"),
    "Service": (client.CoreV1Api, "service"),
    "Role": (client.RbacAuthorizationV1Api, "role"),
    "RoleBinding": (client.RbacAuthorizationV1Api, "role_binding"),
    "Job": (client.BatchV1Api, "job"),
}


class ApiObjects:
    """The objects of one namespace."""

    def __init__(self, connection: Connection) -> None:
        self.namespace = connection.namespace
        self._server, self._client = connection.server, connection.batch.api_client

    def get(self, manifest: Manifest) -> Manifest | None:
        """The object as it is there, None if it is not."""
        try:
            return self._request("get", manifest)
        except KeyError:
            return None

    def apply(self, manifest: Manifest, dry_run: bool = False) -> Manifest:
        """Create the object, or change it to what the manifest says; returns it as the server has it then.

        Server-side apply (https://kubernetes.io/docs/reference/using-api/server-side-apply/), and ours wins where
        somebody else has set a field.
        """
        arguments: dict[str, Any] = {"field_manager": FIELD_MANAGER, "force": True, "_content_type": _APPLY}
        if dry_run:
            arguments["dry_run"] = "All"
        try:
            return self._request("patch", manifest, manifest, **arguments)
        except KeyError as error:  # only what would contain it can be missing
            if manifest["kind"] == "JobSet" and "namespaces" not in str(error.args[0]):
                raise UserError(
                    f"{self._server} does not know JobSets; install their controller, or use --engine jobs"
                ) from error
            raise UserError(
                f"{self._server} has no namespace {self.namespace}; make it with `kubectl create namespace "
                f"{self.namespace}`, or give another with --namespace"
            ) from error

    def delete(self, manifest: Manifest) -> None:
        """Delete the object, and in the background the pods that it owns; one that is not there is no error."""
        try:
            self._request("delete", manifest, propagation_policy="Background")
        except KeyError:
            return

    def jobs(self, selector: str) -> list[Manifest]:
        """The Jobs with these labels."""
        batch = client.BatchV1Api(self._client)
        found: list[Manifest] = self._answer(
            "list jobs", batch.list_namespaced_job, self.namespace, label_selector=selector
        )["items"]
        return found

    def _request(self, verb: str, manifest: Manifest, *body: Manifest, **arguments: Any) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        verb_of_client = {"get": "read"}.get(verb, verb)
        if kind in _NOUNS:
            api, noun = _NOUNS[kind]
            method = getattr(api(self._client), f"{verb_of_client}_namespaced_{noun}")
            place: tuple[str, ...] = (name, self.namespace)
        else:
            method = getattr(client.CustomObjectsApi(self._client), f"{verb}_namespaced_custom_object")
            group, version = manifest["apiVersion"].split("/")
            place = (group, version, self.namespace, f"{kind.lower()}s", name)
        answer: Manifest = self._answer(f"{verb} {kind} {name}", method, *place, *body, **arguments)
        return answer

    def _answer(self, what: str, method: Callable[..., Any], *place: Any, **arguments: Any) -> Any:
        """The JSON that a request is answered with.

        Raises:
            KeyError: there is no such thing.
            UserError: it is not allowed, or not valid.
            FtjobsError: the server does not answer, or fails.
        """
        try:
            return json.loads(method(*place, **arguments, _preload_content=False, _request_timeout=TIMEOUTS).data)
        except ERRORS as error:
            status = getattr(error, "status", None)
            reason = explain(error)
            if status == 404:
                raise KeyError(reason) from error
            problem = f"{what} in namespace {self.namespace} at {self._server}: {reason}"
            if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
                raise UserError(problem) from error
            raise FtjobsError(problem) from error
