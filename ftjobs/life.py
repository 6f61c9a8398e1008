"""Signs of life: what a running stage leaves in storage, so that `status` can tell from there how it is.

Beside an artifact's manifest, `running.json` says how far an attempt is and when it last said so, and `failed.json` why
the last attempt failed. Nothing is computed from either.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from ftjobs.errors import FtjobsError, UserError
from ftjobs.plan import StageRun
from ftjobs.storage import Storage

RUNNING, FAILED = "running.json", "failed.json"
_SECONDS_BETWEEN_SIGNS = 10.0


class Life:
    """While the block runs, a sign of life every ten seconds; if it fails, why."""

    def __init__(self, storage: Storage, run: StageRun) -> None:
        self.storage, self.run = storage, run
        self.step, self.total = 0, 0
        self._ended = threading.Event()
        self._signs = threading.Thread(target=self._give_signs, name="signs-of-life", daemon=True)

    def __enter__(self) -> Life:
        self._signs.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._signs.join()
        self._delete(RUNNING)
        # Bad input noticed by the first stage leaves nothing behind: it was told to whoever typed the command.
        told = self.run.kind == "prepare" and isinstance(error, UserError)
        if isinstance(error, Exception) and not told:
            code = error.exit_code if isinstance(error, FtjobsError) else 1
            message = str(error) if isinstance(error, FtjobsError) else f"{type(error).__name__}: {error}"
            self._put(FAILED, {"error": message, "exit_code": code, "at": time.time()})

    def _give_signs(self) -> None:
        if self.run.kind != "prepare":  # the first stage fails at once if it fails by bad input
            self._delete(FAILED)
            self._sign()
        while not self._ended.wait(_SECONDS_BETWEEN_SIGNS):
            self._delete(FAILED)
            self._sign()

    def _sign(self) -> None:
        self._put(RUNNING, {"step": self.step, "total": self.total, "at": time.time()})

    def _put(self, name: str, content: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
            path = Path(folder, name)
            path.write_text(json.dumps(content))
            with suppress(FtjobsError):  # a store that does not answer is noticed, and said, where it matters
                self.storage.put(path, f"{self.run.key}/{name}")

    def _delete(self, name: str) -> None:
        with suppress(FtjobsError):
            self.storage.delete(f"{self.run.key}/{name}")


def signs(storage: Storage, run: StageRun) -> dict[str, Any]:
    """What is known of attempts at a stage that is not published.

    Returns:
        `state` (`running`, `failed` or `none`), and for a running one `step`, `total` and `age` (seconds since the
        last sign of life), for a failed one `error` and `age`.
    """
    for name, state in ((RUNNING, "running"), (FAILED, "failed")):
        try:
            content = json.loads(storage.read(f"{run.key}/{name}"))
            age = max(0.0, time.time() - float(content["at"]))
        except (KeyError, ValueError, TypeError):
            continue
        fields = ("step", "total") if state == "running" else ("error",)
        return {"state": state, "age": round(age, 1), **{field: content.get(field) for field in fields}}
    return {"state": "none"}
