"""The process that runs wandb: `python -m ftjobs.tracking.wandb_worker`.

wandb is imported only here, so that it cannot affect the training process. The protocol is one JSON object per line:
the settings and then messages on stdin, responses on stdout.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, NoReturn

from ftjobs.tracking import wandb_folders

#: Seconds after the end of the training process in which the run must end.
_ORPHAN_SECONDS = 30.0
#: Metrics -> the metric on the x axis of their charts.
_AXES = {"train/*": "step", "eval/*": "epoch", "mlm/*": "epoch", "system/*": "epoch"}


class Worker:
    """One run of Weights & Biases."""

    def __init__(self, settings: dict[str, Any], responses: IO[str]) -> None:
        self.settings, self.responses = settings, responses
        self.run = self._open()
        for axis in ("step", "epoch"):
            self.run.define_metric(axis, hidden=True)
        for group, axis in _AXES.items():
            self.run.define_metric(group, step_metric=axis)
        # The first missing row: after those on the server, or after those in earlier run wandb_folders.
        earlier = [Path(folder) for folder in settings["folders"]] if self.run.settings._offline else []
        self.last = -1
        self.first = max([self.run.starting_step, *(wandb_folders.last_step(folder) + 1 for folder in earlier)])

    def respond(self, **content: Any) -> None:
        """Send a response to the training process."""
        print(json.dumps(content), file=self.responses, flush=True)

    def _open(self) -> Any:
        """Open or resume the run; offline without an API key or a response from the server."""
        import wandb

        if self.settings["seconds_to_open"] is None:
            run = self._init(mode="offline")
            self.respond(opened="offline")
            return run
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            run = self._init(mode="offline")
            self.respond(opened="offline", reason="no key")
            return run
        try:
            run = self._init()
        except Exception as error:
            wandb.teardown()  # otherwise wandb-core reports that the id is in use
            run = self._init(mode="offline")
            self.respond(opened="offline", reason=f"{type(error).__name__}: {error}", unreachable=True)
            return run
        self.respond(opened="offline" if run.settings._offline else "online", url=run.url)
        return run

    def _init(self, **mode: Any) -> Any:
        import wandb

        wandb_folders.wait_for_new_name([Path(folder) for folder in self.settings["folders"]])
        return wandb.init(
            **self.settings["init"],
            **mode,
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                program="ftjobs",
                disable_git=True,  # the URL of a repository may contain a password
                disable_code=True,
                init_timeout=self.settings["seconds_to_open"] or 30.0,
                finish_timeout=self.settings["seconds_to_upload"],
                finish_timeout_raises=True,
                x_stats_pid=self.settings["pid"],  # sample CPU and GPU use of the training process
                x_transaction_log_flush_interval=1.0,
            ),
        )

    def handle(self, message: dict[str, Any]) -> bool:
        """Handle a message; return False after the last one."""
        match message["do"]:
            case "log":
                for step, metrics in message["rows"]:
                    if step >= self.first:
                        self.run.log({"step": step, **metrics}, step=step, commit=True)
                        self.last = step
            case "configure":
                self.run.config.update(message["values"], allow_val_change=True)
            case "summarize":
                self.run.summary.update(message["values"])
            case "reference":
                self._reference(**message["artifact"])
            case "report":
                self._report(Path(message["folder"]), message["tables"])
            case "finish":
                self._finish(message["exit_code"])
                return False
        return True

    def _reference(self, name: str, kind: str, uri: str, metadata: dict[str, Any]) -> None:
        """Log an artifact that refers to storage and contains no files."""
        import wandb
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

        artifact = wandb.Artifact(name, type=kind, metadata=metadata)
        # Like `add_reference(uri, checksum=False)` without reading the object: the manifest is not published yet.
        artifact.manifest.add_entry(ArtifactManifestEntry(path=uri.rpartition("/")[2], ref=uri, digest=uri))
        self.run.log_artifact(artifact)

    def _report(self, folder: Path, tables: dict[str, dict[str, Any]]) -> None:
        """Log the report's tables and plots."""
        import wandb

        media: dict[str, Any] = {f"report/{name}": wandb.Table(**table) for name, table in tables.items()}
        try:
            plots = sorted(folder.glob("plots/*.png"))
            media |= {f"plots/{path.stem}": wandb.Image(str(path)) for path in plots}
        except Exception as error:
            self.respond(warning=f"no plots: {type(error).__name__}: {error}")
        self.run.log(media)

    def _abort(self, reason: str) -> NoReturn:
        """Report a failure and exit without waiting for threads of wandb."""
        self.respond(failed=reason)
        os._exit(1)

    def _finish(self, exit_code: int) -> None:
        if exit_code == 143:
            self.run.mark_preempting()
        import wandb

        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            self._abort("the upload did not end in time")
        wandb.teardown()  # the run folder is complete once wandb-core has ended
        offline = self.run.settings._offline
        if offline and wandb_folders.last_step(Path(self.run.settings.sync_dir)) < self.last:
            self._abort("rows are missing in the run folder; is the disk full?")  # wandb-core does not report it
        self.respond(finished="offline" if offline else "online")


def serve(requests: Iterable[str], responses: IO[str]) -> None:
    """Handle settings and messages until the last one, or until stdin is closed."""
    lines = iter(requests)
    settings = json.loads(next(lines))
    os.environ.update(settings["environment"])
    os.makedirs(settings["scratch"], exist_ok=True)
    tempfile.tempdir = settings["scratch"]  # not TMPDIR: wandb-core creates a socket there, whose path must be short
    worker = Worker(settings, responses)
    if all(worker.handle(json.loads(line)) for line in lines):  # no last message: the training process has died
        timer = threading.Timer(_ORPHAN_SECONDS, os._exit, [1])
        timer.daemon = True
        timer.start()
        worker.handle({"do": "finish", "exit_code": 1})


def main() -> None:
    """Run the worker. After a failure, exit without waiting for threads of wandb."""
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of wandb must not mix with responses
    try:
        serve(sys.stdin, responses)
    except BaseException as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), file=responses, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
