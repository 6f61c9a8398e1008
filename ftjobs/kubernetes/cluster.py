"""The Jobs of one pipeline on a cluster: see them, change them, wait until one is different."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from ftjobs.errors import UserError
from ftjobs.kubernetes.connection import ERRORS, TIMEOUTS, Connection, explain
from ftjobs.kubernetes.job_state import JobState
from ftjobs.kubernetes.stage_jobs import PIPELINE, STAGE
from ftjobs.system.progress import LOG

#: Name under which the API server keeps who changed which field.
FIELD_MANAGER = "ftjobs-conductor"
#: Seconds until the next look after a change, for changes come in groups; and after a watch that ended too early.
AFTER_CHANGE, AFTER_FAILURE = 0.5, 5.0


@dataclass(frozen=True)
class Listing:
    """All Jobs of a pipeline at one moment."""

    jobs: Mapping[str, JobState]
    """By name; those being deleted are left out."""
    version: str
    """Where a watch goes on from here."""


class Cluster:
    """The Jobs of one pipeline in one namespace.

    Answers are read as JSON: a few fields are needed, and the client's models would check every one.
    """

    def __init__(self, connection: Connection, pipeline: str) -> None:
        self.connection, self.pipeline = connection, pipeline
        self._may_watch = True

    def jobs(self) -> Listing:
        """The Jobs of the pipeline's stages, of whatever job file.

        Raises:
            UserError, FtjobsError: as `Connection.call`.
        """

        def request() -> Any:
            return self.connection.batch.list_namespaced_job(
                **self._ours(), _request_timeout=TIMEOUTS, _preload_content=False
            )

        try:
            found = self.connection.call("list jobs", request)
        except KeyError as error:
            raise UserError(f"{self.connection.server} knows no Jobs; is it the API server of a cluster?") from error
        states = [JobState.of(job) for job in found["items"]]
        return Listing({state.name: state for state in states if state}, found["metadata"]["resourceVersion"])

    def patch(self, name: str, patch: dict[str, Any]) -> None:
        """Merge `patch` into a Job; one that is not there any more is left for the next look."""

        def request() -> Any:
            return self.connection.batch.patch_namespaced_job(
                name,
                self.connection.namespace,
                patch,
                field_manager=FIELD_MANAGER,
                _content_type="application/merge-patch+json",
                _request_timeout=TIMEOUTS,
                _preload_content=False,
            )

        try:
            self.connection.call(f"patch job {name}", request)
        except KeyError:
            LOG.info("job %s was deleted meanwhile", name)

    def wait(self, seen: Listing, seconds: float) -> None:
        """Return a moment after a Job is no longer as it was `seen`, or came or went, and at the latest in time."""
        end = time.monotonic() + seconds
        pause = AFTER_FAILURE
        try:
            if self._may_watch and self._has_changed(seen, seconds):
                pause = AFTER_CHANGE
        except ERRORS as error:
            if getattr(error, "status", None) == 403:
                self._may_watch = False
                LOG.warning("%s; without watching, changes are noticed later", explain(error))
            else:
                LOG.debug("the watch ended: %s", explain(error))
        left = end - time.monotonic()
        time.sleep(max(0.0, min(pause, left) if self._may_watch else left))

    def _has_changed(self, seen: Listing, seconds: float) -> bool:
        """Watch until a Job differs, which is True, or the server ends the watch."""
        # Not the client's Watch: it starts over by itself, and in 37.0 ends in a KeyError when told 410 Gone.
        lines: Any = self.connection.batch.list_namespaced_job(
            **self._ours(),
            watch=True,
            resource_version=seen.version,
            timeout_seconds=math.ceil(seconds),
            _request_timeout=(TIMEOUTS[0], math.ceil(seconds) + TIMEOUTS[1]),
            _preload_content=False,
        )
        with closing(lines):
            for event in map(json.loads, lines):
                if event["type"] == "ERROR":  # such as 410: the version is forgotten
                    return False
                job = event["object"]
                state = None if event["type"] == "DELETED" else JobState.of(job)
                if state != seen.jobs.get(job["metadata"]["name"]):
                    return True
        return False

    def _ours(self) -> dict[str, Any]:
        selector = f"{PIPELINE}={self.pipeline},{STAGE}"  # the conductor's own Job is no stage's
        return {"namespace": self.connection.namespace, "label_selector": selector}
