"""The last word of a container, where Kubernetes shows it: the pod's termination message."""

from __future__ import annotations

import os
from contextlib import suppress

#: The kubelet keeps this many bytes of a container's message (MaxContainerTerminationMessageLength).
_MOST_BYTES = 4096


def leave_message(text: str) -> None:
    """Write a text to the file that FTJOBS_TERMINATION_LOG names, if it does; cut at the end where it is too long."""
    path = os.environ.get("FTJOBS_TERMINATION_LOG")
    if not path:
        return
    cut = text.encode(errors="replace")[: _MOST_BYTES - 1].decode(errors="ignore")  # no half of a character
    with suppress(OSError), open(path, "w", encoding="utf-8") as file:  # it is on stdout or stderr as well
        file.write(cut)
