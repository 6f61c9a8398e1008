"""The `ftjobs` command and `python -m ftjobs`. Handles SIGTERM before importing anything slow."""

from __future__ import annotations

import os
import sys

from ftjobs.errors import ExitCode
from ftjobs.system import signals


def main() -> None:
    """Run the command line; ends with exit code 143 after SIGTERM."""
    try:
        signals.install()
        with signals.errors_as_stopped():
            from ftjobs import cli

            cli.main()
    except signals.Stopped:
        print("stopped by SIGTERM", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(ExitCode.TERMINATED)  # not sys.exit, which waits for threads; one may be waiting for a store


if __name__ == "__main__":
    main()
