"""The `ftjobs` command line. Results go to stdout, progress and logs to stderr, an error is one line and an exit code.

Commands import slow modules inside the function that needs them, so that help, plan and status are instant.
"""

from __future__ import annotations

import sys

from ftjobs.cli import (  # noqa: F401 (they register their commands)
    artifact_commands,
    cluster_commands,
    job_commands,
    model_commands,
    setup_commands,
)
from ftjobs.cli.app import app, write_termination_message
from ftjobs.errors import ExitCode, FtjobsError
from ftjobs.system import signals

__all__ = ["app", "main"]


def main() -> None:
    """Run a command. Turn an error into lines on stderr and an exit code."""
    try:
        with signals.errors_as_stopped():
            app()
    except FtjobsError as error:
        _print_errors(*error.problems)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of stdout has ended, as in `ftjobs ls | head`
        sys.stdout = None
        sys.exit(ExitCode.DONE)
    except OSError as error:
        _print_errors(f"{error.filename or 'this machine'}: {error.strerror or error}")
        sys.exit(ExitCode.FAILED)


def _print_errors(*problems: str) -> None:
    message = "\n".join(f"error: {problem}" for problem in problems)
    print(message, file=sys.stderr)
    write_termination_message(message)
