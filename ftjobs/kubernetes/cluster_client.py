"""Client of a cluster's API server: credentials from kubeconfig or from the pod, and requests with retries."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.config import incluster_config
from kubernetes.config.kube_config import KubeConfigMerger

from ftjobs.errors import FtjobsError, UserError
from ftjobs.system.progress import LOG

#: Seconds until a request gives up. 401 and 403 give up earlier, but not at once: a Role may be created shortly after
#: the pod that needs it, and tokens are rotated.
PATIENCE, FORBIDDEN_PATIENCE = 300.0, 30.0
#: Bounds of the wait between two attempts, and of a wait that the server requests by Retry-After, in seconds.
SHORTEST_WAIT, LONGEST_WAIT, LONGEST_RETRY_AFTER = 0.5, 10.0, 120.0
#: Timeouts to connect, and to read the next bytes of a response, in seconds.
TIMEOUTS = (10.0, 30.0)
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: Errors of a request to a server that is down, overloaded, or that sent an incomplete response.
ERRORS = (client.ApiException, urllib3.exceptions.HTTPError, json.JSONDecodeError, config.ConfigException, OSError)
#: Errors of unreadable credentials; the official client barely validates a kubeconfig.
_UNREADABLE = (config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError, AttributeError)
_REMEDIES = {
    401: "the server rejects the credentials; log in again, or check that the pod's ServiceAccount exists",
    403: "the controller needs a Role with the verbs get, list, watch and patch on jobs of the API group batch",
}


class ClusterClient:
    """An API server with credentials and a default namespace."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """
        Args:
            context: context of the kubeconfig; None for its current context, or for the cluster of this pod.
            namespace: None for the namespace of the context or of this pod.

        Raises:
            UserError: no kubeconfig and no service account, or an invalid one.
        """
        self._context = context
        #: True if this process runs in a pod of the cluster.
        self.in_cluster = context is None and not os.environ.get("KUBECONFIG") and _has_service_account()
        try:
            self.namespace = namespace or self._default_namespace()
            self.batch = self._connect()
        except _UNREADABLE as error:
            raise UserError(
                f"no access to a Kubernetes cluster: {_one_line(error)}; set KUBECONFIG or --context, or mount the "
                "token of the pod's ServiceAccount"
            ) from error
        self.server = str(self.batch.api_client.configuration.host)

    def call(self, action: str, request: Callable[[], Any]) -> Any:
        """Send a request and return the JSON of its response; retry while the server is down, overloaded or truncates
        responses.

        Args:
            action: verb and object, for messages.
            request: calls a method of `batch` with `_preload_content=False`; evaluated again for each attempt, because
                `batch` is replaced when credentials are read again.

        Raises:
            KeyError: no such object (404).
            UserError: invalid request; or not permitted for FORBIDDEN_PATIENCE seconds.
            FtjobsError: the server failed for PATIENCE seconds.
        """
        started = time.monotonic()
        while True:
            try:
                return json.loads(request().data)
            except ERRORS as error:
                status = getattr(error, "status", None)
                if status == 404:
                    raise KeyError(action) from error
                elapsed = time.monotonic() - started
                seconds = _wait_before_retry(error, elapsed)
                failure = f"{action} at {self.server}: {explain(error)}"
                if not _is_transient(error):
                    raise UserError(failure) from error
                if elapsed + seconds > (FORBIDDEN_PATIENCE if status in _REMEDIES else PATIENCE):
                    if status in _REMEDIES:
                        raise UserError(f"{failure}; {_REMEDIES[status]}") from error
                    raise FtjobsError(f"{failure}; gave up after {elapsed:.0f} s") from error
                LOG.warning("%s; retrying in %.1f s", failure, seconds)
                time.sleep(seconds)
                if status == 401:
                    self._reconnect()

    def _default_namespace(self) -> str:
        if self.in_cluster:
            return (_SERVICE_ACCOUNT / "namespace").read_text().strip()
        location = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
        kubeconfig = KubeConfigMerger(location).config
        if kubeconfig is None:
            raise config.ConfigException(f"no kubeconfig at {location}")
        context = kubeconfig["contexts"].get_with_name(self._context or kubeconfig["current-context"])
        return str(context["context"].safe_get("namespace") or "default")

    def _connect(self) -> client.BatchV1Api:
        """Read the kubeconfig or the pod's token, also after a change."""
        configuration = client.Configuration()
        configuration.retries = False  # `call` retries for longer, and logs the reason
        configuration.keep_alive = True
        if self.in_cluster:
            incluster_config.load_incluster_config(configuration)
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG") or None, self._context, configuration)
        return client.BatchV1Api(client.ApiClient(configuration))

    def _reconnect(self) -> None:
        """Read the credentials again: tokens are rotated while the process runs."""
        try:
            self.batch = self._connect()
        except _UNREADABLE as error:
            LOG.warning("cannot read the credentials again: %s", _one_line(error))


def explain(error: Exception) -> str:
    """Return one line: status and message of the server, or type and text of another error."""
    if not isinstance(error, client.ApiException):
        return f"{type(error).__name__}: {_one_line(error)}"
    try:
        message = str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        message = " ".join(str(error.reason).split())
    return f"{error.status} {message}" if error.status else message


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _wait_before_retry(error: Exception, elapsed: float) -> float:
    """Return the seconds to wait: the server's Retry-After, else in proportion to the time since the first attempt."""
    headers = getattr(error, "headers", None) or {}
    retry_after = str(headers.get("Retry-After", ""))
    if retry_after.isdecimal():
        return max(SHORTEST_WAIT, min(float(retry_after), LONGEST_RETRY_AFTER))
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, elapsed)) * random.uniform(0.5, 1.0)


def _is_transient(error: Exception) -> bool:
    """Return whether a retry may succeed."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    status = getattr(error, "status", None)
    return not isinstance(status, int) or status in (0, 401, 403, 408, 409, 410, 425, 429) or status >= 500


def _has_service_account() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").exists()
