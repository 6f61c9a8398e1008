"""The commands. Results go to stdout, progress and logs to stderr; an error is one line per problem and an exit code.

Whatever is slow to import is imported inside the command that needs it, so that help, plan and status are instant.
"""

from __future__ import annotations

import sys

from ftjobs.cli import cluster, health, hub, pipeline, predict, store  # noqa: F401 (each adds its commands to the app)
from ftjobs.cli.app import app
from ftjobs.cli.termination import leave_message
from ftjobs.errors import FtjobsError
from ftjobs.system import signals

__all__ = ["app", "main"]


def main() -> None:
    """Entry point: run a command and turn an error into its line and exit code."""
    try:
        with signals.honoured():
            app()
    except FtjobsError as error:
        _say(*error.problems)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output has gone, as in `ftjobs ls | head`
        sys.stdout = None
        sys.exit(0)
    except OSError as error:
        _say(f"{error.filename or 'this machine'}: {error.strerror or error}")
        sys.exit(1)


def _say(*problems: str) -> None:
    message = "\n".join(f"error: {problem}" for problem in problems)
    print(message, file=sys.stderr)
    leave_message(message)
