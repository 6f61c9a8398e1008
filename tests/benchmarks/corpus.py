"""Time and memory by size of the data: `python -m tests.benchmarks.corpus [--steps N] [MB …]`.

For each size (default: 1, 10 and 100 MB of text), `prepare` runs, and then `adapt` up to step N, each in a new process
with the quickstart's toy encoder. Prints seconds, MB of text per second, peak anonymous memory (RssAnon, sampled every
10 ms) and peak resident memory (VmHWM), which includes pages of mapped files that the kernel keeps while memory is free.

The texts are MedQuAD's passages (`../shared/data`), numbered and with some words exchanged so that all differ; random
words where that data is absent.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_PASSAGES = Path(__file__).resolve().parents[3] / "shared" / "data" / "medquad_passages.jsonl.gz"
_COLUMNS = {
    "text, MB": "{megabytes:.1f}",
    "rows": "{rows:,}",
    "`prepare`, s": "{prepare[seconds]:.1f}",
    "MB/s": "{prepare_speed:.2f}",
    "anonymous memory, MB": "{prepare[anonymous]:.0f}",
    "resident, MB": "{prepare[resident]:.0f}",
    "tokenization, s": "{adapt[tokenizing]:.1f}",
    "MB/s ": "{adapt_speed:.2f}",
    "`adapt`: anonymous memory, MB": "{adapt[anonymous]:.0f}",
    "resident, MB ": "{adapt[resident]:.0f}",
    "s per step": "{adapt[per_step]:.4f}",
}


class _StepsDone(Exception):
    """All steps to measure are done."""


def write_corpus(path: Path, megabytes: float) -> tuple[int, int]:
    """Write a jsonl file with about this much text; return the number of rows and of bytes of text."""
    rows = size = 0
    with path.open("w", encoding="utf-8") as file:
        for text in _texts(random.Random(0)):
            size += len(text.encode())
            rows += 1
            file.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
            if size >= megabytes * 1e6:
                return rows, size
    raise AssertionError("unreachable: texts are infinite")


def _texts(generator: random.Random) -> Iterator[str]:
    passages = _passages() if _PASSAGES.exists() else _random_words(generator)
    generator.shuffle(passages)  # the first ones are longer
    number = 0
    while True:
        for words in passages:
            number += 1
            replacements = generator.choices(generator.choice(passages), k=len(words) // 10)
            changed = list(words)
            for word in replacements:
                changed[generator.randrange(len(words))] = word
            yield f"{number}: {' '.join(changed)}"


def _passages() -> list[list[str]]:
    with gzip.open(_PASSAGES, "rt", encoding="utf-8") as file:
        return [json.loads(line)["text"].split() for line in file]


def _random_words(generator: random.Random) -> list[list[str]]:
    words = ["".join(generator.choices("aeioulnrst", k=generator.randint(2, 9))) for _ in range(5_000)]
    return [generator.choices(words, k=generator.randint(20, 400)) for _ in range(2_000)]


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Measure peak memory of this process within the block: `anonymous` and `resident`, in MB."""
    peaks: dict[str, float] = {}
    done = threading.Event()

    def status(name: str) -> float:
        match = re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())
        assert match is not None
        return int(match[1]) * 1024 / 1e6

    def poll() -> None:
        while not done.wait(0.01):
            peaks["anonymous"] = max(peaks.get("anonymous", 0.0), status("RssAnon"))

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        done.set()
        thread.join()
        peaks["anonymous"] = max(peaks.get("anonymous", 0.0), status("RssAnon"))
        peaks["resident"] = status("VmHWM")


def prepare(corpus: Path, output: Path) -> dict[str, float]:
    """Run `prepare` on a corpus, in this process."""
    from ftjobs.jobfile.fields import Data, Encoder
    from ftjobs.plan import Prepare
    from ftjobs.stages import prepare as stage
    from tests.benchmarks.encoders import encoder_settings

    data = Data(source=str(corpus), text="text", split={"test_fraction": 0.001})
    output.mkdir()
    with peak_memory() as memory:
        started = time.perf_counter()
        stage.run(Prepare(encoder=Encoder(**encoder_settings("toy", output, [])), data=data), 0, {}, output)
        seconds = time.perf_counter() - started
    return {"seconds": seconds, **memory}


def adapt(prepared: Path, output: Path, steps: int, epochs: int = 1) -> dict[str, float]:
    """Run `adapt` on prepared data in this process, up to a number of steps."""
    from ftjobs.data.examples import masked_examples
    from ftjobs.jobfile.fields import Adapt
    from ftjobs.stages import adapt as stage
    from ftjobs.training.callbacks import Callback, StepEnd, TrainingContext

    class Steps(Callback):
        started = 0.0

        def on_step_end(self, event: StepEnd) -> None:
            if event.step == 1:  # allocators and kernels are warm
                Steps.started = time.perf_counter()
            if event.step == steps:
                raise _StepsDone

    tokenizing: list[float] = []
    masked_examples.tokenize = _timed(masked_examples.tokenize, tokenizing)  # type: ignore[attr-defined]
    output.mkdir()
    with peak_memory() as memory:
        try:
            inputs = {"prepare": prepared, "encoder": prepared}
            context = TrainingContext(callbacks=(Steps(),))
            stage.run(Adapt(kind="adapt", epochs=epochs), 1, inputs, output, context)
        except _StepsDone:
            per_step = (time.perf_counter() - Steps.started) / max(steps - 1, 1)
        else:
            raise ValueError(f"the corpus has fewer than {steps} steps; give fewer with --steps")
    return {"tokenizing": sum(tokenizing), "per_step": per_step, **memory}


def _timed(function: Callable[..., Any], seconds: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*args, **named)
        finally:
            seconds.append(time.perf_counter() - started)

    return timed


def in_new_process(call: str, *arguments: object, before: str = "") -> dict[str, float]:
    """Call a function of this module in a new process and return its result; `before` holds statements to run first."""
    values = ", ".join(f"Path({str(value)!r})" if isinstance(value, Path) else repr(value) for value in arguments)
    script = (
        f"import json\nfrom pathlib import Path\nfrom tests.benchmarks import corpus\n{before}\n"
        f"print(json.dumps(corpus.{call}({values})))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    completed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    if completed.returncode:
        raise RuntimeError(f"{call}: {completed.stderr[-3000:]}")
    result: dict[str, float] = json.loads(completed.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Measure every size and print a Markdown table."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument(
        "megabytes", nargs="*", type=float, default=[1, 10, 100], metavar="MB", help="sizes of the text"
    )
    parser.add_argument("--steps", type=int, default=30, help="steps of `adapt` to run")
    options = parser.parse_args()
    print("| " + " | ".join(name.strip() for name in _COLUMNS) + " |")
    print("|" + "---:|" * len(_COLUMNS), flush=True)
    for megabytes in options.megabytes:
        with tempfile.TemporaryDirectory(prefix="ftjobs-bench-") as temporary:
            folder = Path(temporary)
            rows, size = write_corpus(folder / "corpus.jsonl", megabytes)
            prepared = in_new_process("prepare", folder / "corpus.jsonl", folder / "prepared")
            adapted = in_new_process("adapt", folder / "prepared", folder / "adapted", options.steps)
        row = {
            "megabytes": size / 1e6,
            "rows": rows,
            "prepare": prepared,
            "adapt": adapted,
            "prepare_speed": size / 1e6 / prepared["seconds"],
            "adapt_speed": size / 1e6 / adapted["tokenizing"],
        }
        print("| " + " | ".join(column.format(**row) for column in _COLUMNS.values()) + " |", flush=True)


if __name__ == "__main__":
    main()
