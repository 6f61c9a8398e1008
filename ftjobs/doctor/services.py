"""Checks of the store, the Hub and Weights & Biases, and of a job file that refers to them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import huggingface_hub.constants
from huggingface_hub import HfApi, get_session, get_token

from ftjobs.doctor import Finding
from ftjobs.errors import FtjobsError, UserError, one_line
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import CorpusSource, Data, Job
from ftjobs.jobfile.implicit_stages import implicit_stages
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import Storage, open_storage
from ftjobs.system.hub_errors import reason, refusal
from ftjobs.tracking.tracker import INSTALL_REMEDY, check_installed, is_wandb_installed

_HUB_TIMEOUT_SECONDS = 10.0
_LOGIN_TIMEOUT_SECONDS = 40.0
#: Prints the state of the login on the last line of stdout. Runs in a separate process, because it may hang.
_LOGIN_SCRIPT = """
import wandb
try:
    print("key" if wandb.login(prompt=False, verify=True) else "none")
except Exception as error:
    print(f"{type(error).__name__}: {error}".splitlines()[0])
"""


def check_accounts() -> Iterator[Finding]:
    """Check access to the Hub and to Weights & Biases."""
    yield _check_hub()
    yield _check_wandb()


def _check_hub() -> Finding:
    where = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return Finding("hub", "disabled by HF_HUB_OFFLINE: encoders and data must be files or s3:// addresses")
    try:
        if get_token():
            return Finding("hub", f"{where}: logged in as {HfApi().whoami()['name']}")
        answer = get_session().get(where, timeout=_HUB_TIMEOUT_SECONDS)
        if answer.status_code >= 500:  # a mirror may have no start page
            answer.raise_for_status()
    except Exception as error:  # from httpx, huggingface_hub, or a mirror's response
        refused = getattr(getattr(error, "response", None), "status_code", None) == 401
        remedy = "set HF_TOKEN to a valid token" if refused else "without the Hub, use files or s3:// addresses"
        return Finding("hub", f"{where}: {reason(error)}", "warning", remedy)
    return Finding("hub", f"{where}: reachable; without a token, only public models and data are available")


def _check_wandb() -> Finding:
    if not is_wandb_installed():
        return Finding("tracking", f"Weights & Biases: not installed; for `tracking.wandb`, {INSTALL_REMEDY}")
    mode = os.environ.get("WANDB_MODE")
    if mode in ("disabled", "offline"):
        return Finding("tracking", f"Weights & Biases: {mode} by WANDB_MODE")
    try:
        process = subprocess.run(
            [sys.executable, "-c", _LOGIN_SCRIPT],
            capture_output=True,
            text=True,
            timeout=_LOGIN_TIMEOUT_SECONDS,
            check=False,
        )
        result = (process.stdout.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        result = f"no response within {_LOGIN_TIMEOUT_SECONDS:.0f} s"
    if result == "key":
        return Finding("tracking", "Weights & Biases: logged in")
    if result == "none":
        return Finding("tracking", "Weights & Biases: no API key, so runs are offline; set WANDB_API_KEY")
    remedy = "check WANDB_API_KEY and WANDB_BASE_URL; until then runs are offline"
    return Finding("tracking", f"Weights & Biases: {one_line(result)}", "warning", remedy)


#: Keys of the check. They are constant, so that the next check removes leftovers of a killed one.
_FOLDER = ".ftjobs-doctor"
_FILE, _MARKER = f"{_FOLDER}/file", f"{_FOLDER}/mark"
_CHECK_BYTES = 32 * 2**20
#: `status` derives from the age of a heartbeat, sent every ten seconds, whether a stage is running.
_MAX_CLOCK_OFFSET_SECONDS = 5.0
_GIB = 2**30


def check_store(store: str) -> Iterator[Finding]:
    """Write, list, read, compare and delete objects of a store."""
    try:
        storage = open_storage(store)
        storage.stop_retrying()  # interactive: report the first failure
        storage.check_writable()
        with _removing_check_objects(storage):
            yield from _check_transfer(storage, store)
            yield _check_conditional_put(storage, store)
    except FtjobsError as error:
        yield Finding("store", store, "problem", str(error))
        return
    root = storage.local_path("")
    if root is not None:
        existing = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
        yield Finding("store's disk", f"{shutil.disk_usage(existing).free / _GIB:.1f} GiB free")


def _check_transfer(storage: Storage, store: str) -> Iterator[Finding]:
    """Upload and download a file, and compare the clocks."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-") as folder:
        sent, received = Path(folder, "sent"), Path(folder, "received")
        sent.write_bytes(os.urandom(_CHECK_BYTES))
        started = time.perf_counter()
        digest = storage.put(sent, _FILE)
        uploaded = time.perf_counter()
        is_equal = storage.get(_FILE, received) == digest
        downloaded = time.perf_counter()
    entries = [entry for entry in storage.list(_FOLDER) if entry.key == _FILE]
    up, down = (_CHECK_BYTES / 1e6 / seconds for seconds in (uploaded - started, downloaded - uploaded))
    if not is_equal or [entry.size for entry in entries] != [_CHECK_BYTES]:
        fault = "was downloaded with other content" if not is_equal else "is missing in the listing"
        yield Finding(
            "store", f"{store}: an uploaded file {fault}", "problem", "use another store: this one loses data"
        )
        return
    yield Finding("store", f"{store}: upload {up:.0f} MB/s, download {down:.0f} MB/s")
    offset = (datetime.now(UTC) - entries[0].modified).total_seconds() - (time.perf_counter() - uploaded)
    if abs(offset) > _MAX_CLOCK_OFFSET_SECONDS:
        yield Finding(
            "clock",
            f"the clocks of the store and this machine differ by {abs(offset):.0f} s",
            "warning",
            "synchronize both by NTP: `status` and `gc` compare ages",
        )


def _check_conditional_put(storage: Storage, store: str) -> Finding:
    """Check that a conditional put keeps an existing object, on which concurrent attempts rely."""
    storage.delete(_MARKER)
    first, second = storage.put_if_absent(b"first", _MARKER), storage.put_if_absent(b"second", _MARKER)
    if not first or second or storage.read(_MARKER) != b"first":
        return Finding(
            "publishing", f"{store}: a conditional put replaced an existing object", "problem", "use another store"
        )
    return Finding("publishing", "conditional puts keep existing objects")


@contextmanager
def _removing_check_objects(storage: Storage) -> Iterator[None]:
    """Delete the objects of the check, and folders that it created."""
    root = storage.local_path("")
    existed = root is None or root.exists()
    try:
        yield
    finally:
        for key in (_FILE, _MARKER):
            storage.delete(key)
        if root is not None:
            with suppress(OSError):  # another check may be using it
                (root / _FOLDER).rmdir()
                if not existed:
                    root.rmdir()


def check_job(path: Path, overrides: Sequence[str]) -> Iterator[Finding]:
    """Read a job file, check the packages it needs, and look up its encoder and data on the Hub."""
    try:
        job = read(path, overrides)
        runs = plan(job)
    except UserError as error:
        yield from (Finding("job", problem, "problem") for problem in error.problems)
        return
    yield Finding("job", f"{path}: {len(runs)} runs of {len({run.stage for run in runs})} stages")
    try:
        check_installed(job.tracking)
    except UserError as error:
        yield Finding("tracking", str(error), "problem", INSTALL_REMEDY)
    if not huggingface_hub.constants.HF_HUB_OFFLINE:
        yield from _check_hub_ids(job)


def _check_hub_ids(job: Job) -> Iterator[Finding]:
    model = job.encoder.model
    if model is not None and _is_hub_id(model):
        yield _check_hub_id("encoder", "model", model, job.encoder.revision)
    for data in (job.data, *(stage.settings for stage in implicit_stages(job) if isinstance(stage.settings, Data))):
        if isinstance(data.source, str) and _is_hub_id(data.source):
            yield _check_hub_id("data", "dataset", data.source, data.revision)
    for corpus in (stage.settings for stage in implicit_stages(job) if isinstance(stage.settings, CorpusSource)):
        ids = (source for source in corpus.sources if _is_hub_id(source))
        yield from (_check_hub_id("corpus", "dataset", hub_id, corpus.revision) for hub_id in ids)


def _is_hub_id(address: str) -> bool:
    return "://" not in address and not local_files.is_local(address)


def _check_hub_id(about: str, kind: str, name: str, revision: str) -> Finding:
    try:
        commit = HfApi().repo_info(name, revision=revision, repo_type=kind).sha
    except Exception as error:  # from httpx, huggingface_hub, or a mirror's response
        if message := refusal(error, name, kind):
            problem, _, remedy = message.partition("; ")
            return Finding(about, f"{name} at revision {revision}: {problem}", "problem", remedy)
        return Finding(
            about, f"{name}: {reason(error)}", "warning", "without the Hub, use a folder, a file or an s3:// address"
        )
    return Finding(about, f"{name}: on the Hub, at commit {str(commit)[:12]}")
