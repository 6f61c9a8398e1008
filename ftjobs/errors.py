"""Exceptions, each with the exit code of a process that it ends.

Every message is one line with four parts: where the problem is, what it is, the value, and the remedy.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `ftjobs` command. Kubernetes manifests (`podFailurePolicy`) depend on them."""

    DONE = 0
    FAILED = 1
    """Retry: the store did not answer, a disk was full, training diverged (`FtjobsError`)."""
    USER_ERROR = 2
    """Do not retry: the job file, the data or the arguments are wrong (`UserError`)."""
    TRY_LATER = 75
    """Retry later: inputs are not published yet, or a peer was lost (`TryLater`). `EX_TEMPFAIL` of sysexits.h."""
    INTERRUPTED = 130
    """Ctrl-C (128 + SIGINT). Training state is saved."""
    TERMINATED = 143
    """SIGTERM (128 + SIGTERM). Training state is saved."""


class FtjobsError(Exception):
    """A failure that a retry may cure, such as a store that does not answer or a full disk.

    Attributes:
        problems: all problems found, one line each. Line breaks and control characters in names and values are escaped.
    """

    exit_code: int = ExitCode.FAILED.value

    def __init__(self, problems: str | Sequence[str]) -> None:
        messages = [problems] if isinstance(problems, str) else problems
        self.problems = [one_line(message) for message in messages]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[FtjobsError], tuple[list[str]]]:
        return type(self), (self.problems,)  # pickling keeps the problems separate


class UserError(FtjobsError):
    """The job file, the data or the arguments are wrong; a retry cannot help."""

    exit_code = ExitCode.USER_ERROR.value


class TryLater(FtjobsError):
    """A temporary condition outside of this process; a later attempt may succeed."""

    exit_code = ExitCode.TRY_LATER.value


class InputsNotPublished(TryLater):
    """A stage was started before the stages that it reads were published."""


class PeerLost(TryLater):
    """Another node that runs the same stage has ended, restarted, stopped responding, or never started."""


class CorruptArtifact(FtjobsError):
    """A stored artifact does not match its manifest. None of its files were used."""


def one_line(text: str) -> str:
    """Escape line breaks and control characters in text from outside, so that a terminal does not interpret them."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
