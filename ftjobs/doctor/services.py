"""The services around: the hub that encoders and data come from, and the tracker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import huggingface_hub.constants
from huggingface_hub import HfApi, get_session, get_token

from ftjobs.doctor.finding import Finding
from ftjobs.errors import one_line
from ftjobs.system.hub_errors import reason

_SECONDS_TO_ANSWER = 10.0
_SECONDS_TO_LOG_IN = 40.0
#: Says how the tracker would find itself, on its last line of stdout. A process of its own: it may hang.
_LOG_IN = """
import wandb
try:
    print("key" if wandb.login(prompt=False, verify=True) else "none")
except Exception as error:
    print(f"{type(error).__name__}: {error}".splitlines()[0])
"""


def check() -> Iterator[Finding]:
    """Ask the hub who we are, and the tracker whether it knows our key."""
    yield _hub()
    yield _wandb()


def _hub() -> Finding:
    where = huggingface_hub.constants.ENDPOINT
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return Finding("hub", "switched off by HF_HUB_OFFLINE: encoders and data have to be files or in the store")
    try:
        if get_token():
            return Finding("hub", f"{where}: known as {HfApi().whoami()['name']}")
        answer = get_session().get(where, timeout=_SECONDS_TO_ANSWER)
        if answer.status_code >= 500:  # a mirror need not have a page of its own
            answer.raise_for_status()
    except Exception as error:  # of httpx, of the hub's library, of whatever answers in its place
        refused = getattr(getattr(error, "response", None), "status_code", None) == 401
        remedy = (
            "set HF_TOKEN to one that is valid" if refused else "without it, give encoders and data as files or s3://"
        )
        return Finding("hub", f"{where}: {reason(error)}", "warning", remedy)
    return Finding("hub", f"{where}: answers; no token, so public models and data only")


def _wandb() -> Finding:
    mode = os.environ.get("WANDB_MODE")
    if mode in ("disabled", "offline"):
        return Finding("tracking", f"Weights & Biases: {mode}, by WANDB_MODE")
    try:
        found = subprocess.run(
            [sys.executable, "-c", _LOG_IN], capture_output=True, text=True, timeout=_SECONDS_TO_LOG_IN, check=False
        )
        said = (found.stdout.strip().splitlines() or [f"ended with {found.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        said = f"no answer within {_SECONDS_TO_LOG_IN:.0f} s"
    if said == "key":
        return Finding("tracking", "Weights & Biases: logged in")
    if said == "none":
        return Finding("tracking", "Weights & Biases: no key, so runs are kept offline; WANDB_API_KEY sets one")
    remedy = "check WANDB_API_KEY and WANDB_BASE_URL; until then runs are kept offline"
    return Finding("tracking", f"Weights & Biases: {one_line(said)}", "warning", remedy)
