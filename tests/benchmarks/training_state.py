"""Cost of saving training state in the background: `python -m tests.benchmarks.training_state [ROUNDS [SECONDS]]`.

A classifier of MiniLM's size (22.7 M parameters; a state has 360 MB) trains for SECONDS with a save every SECONDS / 4 to
a SeaweedFS server on this machine, and for as many steps without saves, alternating (A B, B A, …), each in a new process.
Saves are far more frequent than `save_every: 5m`, to be measurable; the output therefore has the cost of one save in
seconds of training, and its share at one save per five minutes. The cost includes the server, which shares the CPU.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes.s3_server import BUCKET, environment, running_server

_STEPS_TO_WARM_UP = 5
_DEFAULT_INTERVAL = 300.0


def main(rounds: int, seconds: float) -> None:
    """Train `rounds` times with and without saves, alternating, and print the cost of the saves."""
    with tempfile.TemporaryDirectory(prefix="ftjobs-bench-") as temporary:
        server = running_server(Path(temporary) / "server")
        settings = os.environ | environment(next(server).url)

        def measure(name: str, every: float, steps: int) -> dict[str, float]:
            arguments = [sys.executable, "-m", __spec__.name, "train_once", name, str(every), str(steps)]
            process = subprocess.run(arguments, env=settings, stdout=subprocess.PIPE, text=True, check=True)
            result: dict[str, float] = json.loads(process.stdout)
            print(f"{name:12} {result['seconds']:6.1f} s, {result['saves']:.0f} saves", file=sys.stderr)
            return result

        trial = measure("trial", 1e6, 20)
        steps = int(seconds / trial["seconds"] * 20)
        ratios, costs = [], []
        for number in range(rounds):
            cases = {"without": 1e6, "with": seconds / 4}
            order = list(cases) if number % 2 else list(reversed(cases))
            by_case = {case: measure(f"{case}-{number}", cases[case], steps) for case in order}
            with_saves, without = by_case["with"], by_case["without"]
            ratios.append(with_saves["seconds"] / without["seconds"])
            costs.append((with_saves["seconds"] - without["seconds"]) / with_saves["saves"])
        server.close()
    cost = statistics.median(costs)
    print(
        f"{steps} steps, a state every {seconds / 4:.0f} s: {statistics.median(ratios):.3f} times as long as without "
        f"(median of {rounds}: {', '.join(f'{ratio:.3f}' for ratio in ratios)}); one save costs {cost:.2f} s of "
        f"training, {cost / _DEFAULT_INTERVAL:.2%} at `save_every: 5m`"
    )


def train_once(name: str, every: float, steps: int) -> None:
    """Train once; print the seconds from the first step after warm-up, and the number of saves."""
    import numpy as np
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from ftjobs.data.examples.batching import LabeledExamples
    from ftjobs.execution.checkpointing import StorageCheckpointer
    from ftjobs.jobfile.fields import Classify, Job
    from ftjobs.plan import plan, select
    from ftjobs.storage import open_storage
    from ftjobs.training.callbacks import Callback, StepEnd, TrainingContext
    from ftjobs.training.loop import train
    from tests.helpers.training import ToyObjective, random_tokens

    torch.manual_seed(0)
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    model = BertForSequenceClassification(BertConfig(num_labels=2, **sizes))
    tokens = random_tokens(8 * (steps + _STEPS_TO_WARM_UP), model.config.vocab_size)
    examples = LabeledExamples(tokens, np.arange(len(tokens)) % 2, pad_token_id=0)
    source = {"source": "me/pairs", "text": "q", "label": "l"}
    fields = {"name": name, "encoder": {"model": "me/encoder"}, "data": source, "stages": {"a": {"kind": "classify"}}}
    run = select(plan(Job.model_validate(fields)), "a")
    with tempfile.TemporaryDirectory(prefix="ftjobs-bench-") as work:
        checkpointer = StorageCheckpointer(open_storage(f"s3://{BUCKET}/bench"), run, 1, Path(work))
        checkpointer.every_steps, checkpointer.every_seconds = None, every
        saves, started = 0, 0.0
        save = checkpointer.save

        def counted(*arguments: object, **options: object) -> None:
            nonlocal saves
            saves += 1
            save(*arguments, **options)  # type: ignore[arg-type]

        class StartClock(Callback):
            def on_step_end(self, event: StepEnd) -> None:
                nonlocal started
                if event.step == _STEPS_TO_WARM_UP:
                    started = time.perf_counter()
                    checkpointer.saved_at = time.monotonic()

        checkpointer.save = counted  # type: ignore[method-assign]
        train(
            model,
            examples,
            Classify(epochs=1, per_device_batch_size=8),
            ToyObjective(),
            seed=1,
            context=TrainingContext(checkpointer, callbacks=(StartClock(),)),
        )
        seconds = time.perf_counter() - started
        checkpointer.close()
        checkpointer.clear()
    print(json.dumps({"seconds": seconds, "saves": saves}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["train_once"]:
        train_once(sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3, float(sys.argv[2]) if len(sys.argv) > 2 else 120.0)
