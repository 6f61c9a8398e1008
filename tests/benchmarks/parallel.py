"""Speed-up of `ftjobs run --parallel N`: whole pipelines from process start to report, alternating with `ftjobs run`.

    python -m tests.benchmarks.parallel jobs/quickstart.yaml --parallel 2 --rounds 2

Each run has a new, empty store. Results go to stdout.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time


def main() -> None:
    """Run the measurements that the command line selects and print the results."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.parallel")
    parser.add_argument("job")
    parser.add_argument(
        "--parallel", nargs="+", type=int, default=[2], help="numbers of parallel stages to compare with 1"
    )
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="overrides, as for `ftjobs run`")
    options = parser.parse_args()
    overrides = [word for override in options.set for word in ("--set", override)]
    seconds: dict[int, list[float]] = {parallel: [] for parallel in (1, *options.parallel)}
    for _ in range(options.rounds):
        for parallel, times in seconds.items():
            times.append(_run(options.job, parallel, overrides))
            print(f"--parallel {parallel}: {times[-1]:.1f} s", file=sys.stderr, flush=True)
    alone = statistics.mean(seconds[1])
    for parallel, times in seconds.items():
        mean = statistics.mean(times)
        print(f"--parallel {parallel}: {mean:.1f} s ({min(times):.1f} to {max(times):.1f}), {alone / mean:.2f} times")


def _run(job: str, parallel: int, overrides: list[str]) -> float:
    with tempfile.TemporaryDirectory(prefix="ftjobs-benchmark-") as store:
        command = [
            sys.executable,
            "-m",
            "ftjobs",
            "run",
            job,
            "--store",
            store,
            "--parallel",
            str(parallel),
            *overrides,
        ]
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
