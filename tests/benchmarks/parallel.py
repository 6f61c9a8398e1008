"""What `ftjobs run --parallel N` gains: whole pipelines from process start to report, in turn with `ftjobs run`.

    python -m tests.benchmarks.parallel jobs/quickstart.yaml --parallel 2 --rounds 2

Each run has a store of its own and starts from nothing. Results go to stdout.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parallel")
    parser.add_argument("job")
    parser.add_argument("--parallel", nargs="+", type=int, default=[2], help="numbers of stages at once, beside 1")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="as of `ftjobs run`")
    wanted = parser.parse_args()
    overrides = [word for one in wanted.set for word in ("--set", one)]
    seconds: dict[int, list[float]] = {at_once: [] for at_once in (1, *wanted.parallel)}
    for _ in range(wanted.rounds):
        for at_once, found in seconds.items():
            found.append(_run(wanted.job, at_once, overrides))
            print(f"--parallel {at_once}: {found[-1]:.1f} s", file=sys.stderr, flush=True)
    alone = statistics.mean(seconds[1])
    for at_once, found in seconds.items():
        mean = statistics.mean(found)
        print(f"--parallel {at_once}: {mean:.1f} s ({min(found):.1f} to {max(found):.1f}), {alone / mean:.2f} times")


def _run(job: str, at_once: int, overrides: list[str]) -> float:
    with tempfile.TemporaryDirectory(prefix="ftjobs-benchmark-") as store:
        command = [sys.executable, "-m", "ftjobs", "run", job, "--store", store, "--parallel", str(at_once), *overrides]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
