"""Small pipelines on toy encoders: rows, job fields, and a run of every stage."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import LocalStorage, open_storage
from tests.helpers.families import WORDS

CLASSES = ["cold", "fever", "rash"]


def write_rows(path: Path, rows: int = 90) -> None:
    """Sentences of random words that name their class half of the time; string labels, pairs of texts."""
    generator = random.Random(5)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer", "topic"])
        for row in range(rows):
            label = CLASSES[row % 3]
            first, second = (generator.choices(WORDS, k=generator.randint(3, 9)) for _ in range(2))
            writer.writerow([f"{row} {' '.join(first)}", f"{label} {' '.join(second)}", label])


def job_fields(encoder: Path | None, **changes: Any) -> dict[str, Any]:
    """Fields of a job with the four strategies of the study, on `rows.csv`; a scratch encoder unless one is given."""
    short = {"epochs": 2, "learning_rate": 1e-3}
    scratch = {"vocab_size": 200, "hidden_size": 32, "max_position_embeddings": 64}
    return {
        "name": "toy",
        "encoder": {"model": str(encoder)} if encoder else {"scratch": scratch},
        "data": {
            "source": "rows.csv",
            "text": ["question", "answer"],
            "label": "topic",
            "split": {"test_fraction": 0.2},
        },
        "seeds": [1],
        "defaults": {"classify": short, "adapt": short},
        "stages": {
            "adapt": {"kind": "adapt"},
            "head": {"kind": "classify", "freeze_encoder": True},
            "behavioural": {"kind": "classify"},
            "adapted-head": {"kind": "classify", "encoder": "adapt", "freeze_encoder": True},
            "adapted-behavioural": {"kind": "classify", "encoder": "adapt"},
        },
        "hypotheses": ["adapted-head > head", "behavioural > adapted-head by 0.01"],
        **changes,
    }


def run_job(folder: Path, fields: dict[str, Any], store: Path) -> tuple[LocalStorage, dict[str, Manifest]]:
    """Run every stage of a job and return its storage and the manifests by stage title."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "rows.csv").exists():
        write_rows(folder / "rows.csv")
    (folder / "job.yaml").write_text(json.dumps(fields))  # JSON is YAML
    storage = open_storage(str(store))
    runs = plan(read(folder / "job.yaml"))
    manifests = runner.run_all(runs, storage)
    assert isinstance(storage, LocalStorage)
    return storage, {run.title: manifest for run, manifest in zip(runs, manifests, strict=True)}


def files_of(storage: LocalStorage, manifest: Manifest) -> dict[str, bytes]:
    """Return the content of every file of an artifact by path."""
    return {file.path: (storage.root / manifest.folder / file.path).read_bytes() for file in manifest.files}
