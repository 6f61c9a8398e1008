"""What can go wrong, and the exit code each kind of failure ends the process with.

A message says what is wrong, where, the offending value, and the way out, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


class FtjobsError(Exception):
    """A failure that a retry may cure: a store that does not answer, a full disk."""

    exit_code = 1


class UserError(FtjobsError):
    """The job file, the data or the arguments are wrong; a retry cannot help.

    Carries every problem found, not only the first, so that a user mends a file in one go.
    """

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class InputsNotPublished(FtjobsError):
    """A stage was asked to run before the stages it reads have published."""

    exit_code = 75


class CorruptArtifact(FtjobsError):
    """A stored artifact does not match its manifest. Nothing of it was used."""

    exit_code = 1
