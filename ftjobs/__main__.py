"""`python -m ftjobs`, and the `ftjobs` command: SIGTERM is handled before anything slow is imported."""

from __future__ import annotations

import os
import sys

from ftjobs.system import signals


def main() -> None:
    """Run the command line; exit code 143 after SIGTERM."""
    try:
        signals.install()
        with signals.honoured():
            from ftjobs import cli

            cli.main()
    except signals.Stopped:
        print("stopped by SIGTERM", file=sys.stderr, flush=True)
        sys.stdout.flush()
        os._exit(signals.EXIT_CODE)  # not sys.exit: it would wait for threads, and one may wait for a store


if __name__ == "__main__":
    main()
