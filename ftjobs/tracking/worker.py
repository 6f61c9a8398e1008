"""The process that talks to Weights & Biases: `python -m ftjobs.tracking.worker`.

wandb is imported here and nowhere else, so whatever it does, the process that trains is not touched by it. A JSON
object a line: settings and then what to log come in on stdin, what became of it goes out on stdout.
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

from ftjobs.tracking import folders

#: How long this process may go on when the one that started it has vanished.
_ALONE_SECONDS = 30.0
#: The axis that a group of metrics is drawn over.
_AXES = {"train/*": "step", "eval/*": "epoch", "mlm/*": "epoch", "system/*": "epoch"}


class Worker:
    """One run of Weights & Biases, from the settings to the end."""

    def __init__(self, settings: dict[str, Any], answers: IO[str]) -> None:
        self.settings, self.answers = settings, answers
        self.run = self._open()
        for axis in ("step", "epoch"):
            self.run.define_metric(axis, hidden=True)
        for group, axis in _AXES.items():
            self.run.define_metric(group, step_metric=axis)
        # The first row that is missing: behind what the server has, or behind what earlier run folders hold.
        kept = [Path(folder) for folder in settings["folders"]] if self.run.settings._offline else []
        self.last = -1
        self.first = max([self.run.starting_step, *(folders.last_step(folder) + 1 for folder in kept)])

    def answer(self, **content: Any) -> None:
        """Tell the process that trains."""
        print(json.dumps(content), file=self.answers, flush=True)

    def _open(self) -> Any:
        """Open the run, or go on with it; offline if there is no key, or no answer."""
        import wandb

        if self.settings["seconds_to_open"] is None:
            run = self._init(mode="offline")
            self.answer(opened="offline")
            return run
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            run = self._init(mode="offline")
            self.answer(opened="offline", why="no key")
            return run
        try:
            run = self._init()
        except Exception as error:
            wandb.teardown()  # wandb-core would say that the id is in use
            run = self._init(mode="offline")
            self.answer(opened="offline", why=f"{type(error).__name__}: {error}", unreachable=True)
            return run
        self.answer(opened="offline" if run.settings._offline else "online", url=run.url)
        return run

    def _init(self, **mode: Any) -> Any:
        import wandb

        folders.wait_for_a_new_name([Path(folder) for folder in self.settings["folders"]])
        return wandb.init(
            **self.settings["init"],
            **mode,
            resume="allow",
            settings=wandb.Settings(
                silent=True,
                console="off",
                program="ftjobs",
                disable_git=True,  # the address of a repository may hold a password
                disable_code=True,
                init_timeout=self.settings["seconds_to_open"] or 30.0,
                finish_timeout=self.settings["seconds_to_upload"],
                finish_timeout_raises=True,
                x_stats_pid=self.settings["pid"],  # the process whose CPU and GPU use is sampled as `system.`
                x_transaction_log_flush_interval=1.0,
            ),
        )

    def take(self, message: dict[str, Any]) -> bool:
        """Do what a message says; False when it was the last."""
        match message["do"]:
            case "log":
                for step, metrics in message["rows"]:
                    if step >= self.first:
                        self.run.log({"step": step, **metrics}, step=step, commit=True)
                        self.last = step
            case "configure":
                self.run.config.update(message["values"], allow_val_change=True)
            case "summarise":
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
        """Log an artifact that points to storage and holds no bytes."""
        import wandb
        from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

        artifact = wandb.Artifact(name, type=kind, metadata=metadata)
        # What `add_reference(uri, checksum=False)` adds, but without looking for the object: that a stage's manifest
        # is put is the last thing that happens to it.
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
            self.answer(warning=f"no plots: {type(error).__name__}: {error}")
        self.run.log(media)

    def _give_up(self, why: str) -> NoReturn:
        """End at once, whatever threads of wandb are still at."""
        self.answer(failed=why)
        os._exit(1)

    def _finish(self, exit_code: int) -> None:
        if exit_code == 143:
            self.run.mark_preempting()
        import wandb

        try:
            self.run.finish(exit_code=exit_code)
        except TimeoutError:
            self._give_up("the upload did not end in time")
        wandb.teardown()  # wandb-core ends, and only then all is in the run folder
        offline = self.run.settings._offline
        if offline and folders.last_step(Path(self.run.settings.sync_dir)) < self.last:
            self._give_up("rows are missing in the run folder; is the disk full?")  # wandb-core does not say
        self.answer(finished="offline" if offline else "online")


def serve(questions: Iterable[str], answers: IO[str]) -> None:
    """Take settings and messages until the last, or until nobody is there to send more."""
    lines = iter(questions)
    settings = json.loads(next(lines))
    os.environ.update(settings["environment"])
    os.makedirs(settings["scratch"], exist_ok=True)
    tempfile.tempdir = settings["scratch"]  # not TMPDIR: a socket of wandb-core needs a short path
    worker = Worker(settings, answers)
    if all(worker.take(json.loads(line)) for line in lines):  # no last message: the process that trains has vanished
        timer = threading.Timer(_ALONE_SECONDS, os._exit, [1])
        timer.daemon = True
        timer.start()
        worker.take({"do": "finish", "exit_code": 1})


def main() -> None:
    """Run the worker. After a failure it ends at once, whatever threads of wandb are still at."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what wandb prints is no answer
    try:
        serve(sys.stdin, answers)
    except BaseException as error:
        print(json.dumps({"failed": f"{type(error).__name__}: {error}"}), file=answers, flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
