"""What can go wrong, and the exit code each kind of failure ends the process with.

A message says what is wrong, where, the offending value, and the way out, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


class FtjobsError(Exception):
    """A failure that a retry may cure: a store that does not answer, a full disk.

    Carries every problem found, not only the first. Each is one line whatever stands in it: names and values from a
    job file or a store are shown with line breaks and control characters escaped.
    """

    exit_code = 1

    def __init__(self, problems: str | Sequence[str]) -> None:
        given = [problems] if isinstance(problems, str) else problems
        self.problems = [one_line(problem) for problem in given]
        super().__init__("\n".join(self.problems))

    def __reduce__(self) -> tuple[type[FtjobsError], tuple[list[str]]]:
        return type(self), (self.problems,)  # on its way to another process it stays as many lines as it is


class UserError(FtjobsError):
    """The job file, the data or the arguments are wrong; a retry cannot help."""

    exit_code = 2


class TryLater(FtjobsError):
    """Nothing is wrong here; a later attempt may find what this one lacked. EX_TEMPFAIL, as sysexits.h has it."""

    exit_code = 75


class InputsNotPublished(TryLater):
    """A stage was asked to run before the stages it reads have published."""


class PeerLost(TryLater):
    """Several machines run a stage together, and another one of them ended, began anew, or never came."""


class CorruptArtifact(FtjobsError):
    """A stored artifact does not match its manifest. Nothing of it was used."""

    exit_code = 1


def one_line(text: str) -> str:
    """A foreign string with line breaks and control characters escaped, so that no terminal obeys it."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
