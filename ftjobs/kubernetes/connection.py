"""The API server of a cluster: found as kubectl finds it, or from inside a pod; patient with one that is down."""

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

#: How long a call goes on trying; and while it is refused, for a Role may be made moments after the pod that needs it,
#: and a token may be renewed. Seconds.
PATIENCE, REFUSED_PATIENCE = 300.0, 30.0
#: The shortest and longest wait between two tries; a server that says how long to wait is believed up to a limit.
SHORTEST_WAIT, LONGEST_WAIT, LONGEST_RETRY_AFTER = 0.5, 10.0, 120.0
#: To connect, and for the next bytes of an answer.
TIMEOUTS = (10.0, 30.0)
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
#: What a call can end in when the server is not there, is overloaded, or its answer was cut.
ERRORS = (client.ApiException, urllib3.exceptions.HTTPError, json.JSONDecodeError, config.ConfigException, OSError)
#: What credentials that cannot be read are noticed by; the client checks little of a kubeconfig.
_UNREADABLE = (config.ConfigException, yaml.YAMLError, OSError, KeyError, TypeError, ValueError, AttributeError)


class Connection:
    """Calls on one API server, and the namespace that they are about."""

    def __init__(self, context: str | None = None, namespace: str | None = None) -> None:
        """
        Args:
            context: of the kubeconfig; None for its current one, or for the cluster that this process runs in.
            namespace: None for that of the context, or that of this pod.

        Raises:
            UserError: there is neither a kubeconfig nor a service account, or what is there is not right.
        """
        self._context = context
        #: Whether this process runs in the cluster that it talks to.
        self.in_cluster = context is None and not os.environ.get("KUBECONFIG") and _has_service_account()
        try:
            self.namespace = namespace or self._default_namespace()
            self.batch = self._connect()
        except _UNREADABLE as error:
            words = " ".join(str(error).split())
            raise UserError(
                f"no way to a Kubernetes cluster: {words}; set KUBECONFIG or --context, or give the pod a service "
                "account whose token is mounted"
            ) from error
        self.server = str(self.batch.api_client.configuration.host)

    def call(self, what: str, request: Callable[[], Any]) -> Any:
        """The JSON that a request is answered with; tries again while the server is down, overloaded or cuts answers.

        Args:
            what: verb and object, for messages.
            request: calls a method of `batch` with `_preload_content=False`; looked up anew for each try.

        Raises:
            KeyError: there is no such object.
            UserError: not allowed to, and for longer than it takes a Role to be known; or not a valid request.
            FtjobsError: the server went on failing.
        """
        started = time.monotonic()
        while True:
            try:
                return json.loads(request().data)
            except ERRORS as error:
                status = getattr(error, "status", None)
                if status == 404:
                    raise KeyError(what) from error
                passed = time.monotonic() - started
                seconds = self._wait_before_next_try(error, passed)
                failure = f"{what} at {self.server}: {explain(error)}"
                if not is_passing(error):
                    raise UserError(failure) from error
                if passed + seconds > (REFUSED_PATIENCE if status in (401, 403) else PATIENCE):
                    if status in (401, 403):
                        raise UserError(f"{failure}; {_WAYS_OUT[status]}") from error
                    raise FtjobsError(f"{failure}; gave up after {passed:.0f} s") from error
                LOG.warning("%s; trying again in %.1f s", failure, seconds)
                time.sleep(seconds)
                if status == 401:
                    self._reconnect()

    def _wait_before_next_try(self, error: Exception, passed: float) -> float:
        """Seconds: as many as the server asks for, else the longer the longer it has been failing."""
        headers = getattr(error, "headers", None) or {}
        asked = str(headers.get("Retry-After", ""))
        if asked.isdecimal():
            return max(SHORTEST_WAIT, min(float(asked), LONGEST_RETRY_AFTER))
        return min(LONGEST_WAIT, max(SHORTEST_WAIT, passed)) * random.uniform(0.5, 1.0)

    def _default_namespace(self) -> str:
        if self.in_cluster:
            return (_SERVICE_ACCOUNT / "namespace").read_text().strip()
        location = os.environ.get("KUBECONFIG") or config.KUBE_CONFIG_DEFAULT_LOCATION
        kubeconfig = KubeConfigMerger(location).config
        if kubeconfig is None:
            raise config.ConfigException(f"no kubeconfig at {location}")
        chosen = kubeconfig["contexts"].get_with_name(self._context or kubeconfig["current-context"])
        return str(chosen["context"].safe_get("namespace") or "default")

    def _connect(self) -> client.BatchV1Api:
        """Reads kubeconfig or token anew."""
        configuration = client.Configuration()
        configuration.retries = False  # retries are ours: they last longer, and say what they wait for
        configuration.keep_alive = True
        if self.in_cluster:
            incluster_config.load_incluster_config(configuration)
        else:
            config.load_kube_config(os.environ.get("KUBECONFIG") or None, self._context, configuration)
        return client.BatchV1Api(client.ApiClient(configuration))

    def _reconnect(self) -> None:
        """With credentials as they are now: tokens are renewed under us."""
        try:
            self.batch = self._connect()
        except _UNREADABLE as error:
            LOG.warning("cannot read the credentials again: %s", " ".join(str(error).split()))


_WAYS_OUT = {
    401: "the credentials are not accepted; log in again, or let the pod's service account exist",
    403: "a conductor needs a Role with the verbs get, list, watch and patch on the resource jobs of the group batch",
}


def explain(error: Exception) -> str:
    """What a server answered, or why it could not, in one line."""
    if not isinstance(error, client.ApiException):
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    try:
        message = str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        message = " ".join(str(error.reason).split())
    return f"{error.status} {message}" if error.status else message


def is_passing(error: Exception) -> bool:
    """Whether another try may be answered otherwise."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return False
    status = getattr(error, "status", None)
    return not isinstance(status, int) or status in (0, 401, 403, 408, 409, 410, 425, 429) or status >= 500


def _has_service_account() -> bool:
    return bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").exists()
