"""The finished stage that a card describes, with its inputs and results."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from huggingface_hub import metadata_load

from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.prepared import DataSummary
from ftjobs.jobfile.fields import Adapt, Classify, Data
from ftjobs.models.checkpoints import CARD
from ftjobs.objectives import Objective, get_objective
from ftjobs.plan import CorpusStage, DataStage, Prepare, StageRun
from ftjobs.tasks import Task, get_task
from ftjobs.tasks.wording import Evaluation

_MAX_LICENSE = 200


@dataclass(frozen=True)
class CardContext:
    """A stage that has run, before its output is published."""

    run: StageRun
    metrics: dict[str, Any]
    data: DataSummary
    """`data.json` of the stage that prepared its data, with the origin of the encoder from `prepare`."""
    base: dict[str, str]
    """License of the base model, from the base model's card."""
    environment: dict[str, str]
    """Versions of the libraries that the result depends on."""
    model: Path
    """Folder of the checkpoint."""
    predictions: Path
    """`predictions.parquet` of a classifier."""
    timing: dict[str, Any]
    """`timing.json` of a trained model, otherwise empty."""
    corpus: CorpusRecord | None = None
    """Record of the stage's own corpus, if the encoder was adapted to one."""

    @classmethod
    def load(
        cls,
        run: StageRun,
        inputs: dict[str, Path],
        output: Path,
        metrics: dict[str, Any],
        environment: dict[str, str],
    ) -> CardContext:
        """Read the folders of a finished stage.

        Args:
            run: the stage.
            inputs: folders of the artifacts it read, by role.
            output: folder it filled.
            metrics: metrics it returned.
            environment: versions of libraries.
        """
        prepare = output if run.kind == "prepare" else inputs["prepare"]
        data = prepared.read_summary(prepare / "data")
        if "data" in inputs:
            data = {**prepared.read_summary(inputs["data"] / "data"), "encoder": data["encoder"]}
        return cls(
            run=run,
            metrics=metrics,
            data=data,
            base=license_of(prepare / "model"),
            environment=environment,
            corpus=curation.read_record(inputs["corpus"] / "corpus") if "corpus" in inputs else None,
            model=output / "model",
            predictions=output / "predictions.parquet",
            timing=json.loads((output / "timing.json").read_text()) if run.has_seed else {},
        )

    @property
    def name(self) -> str:
        """Name of the model: `quickstart-head-seed-1`, `quickstart-prepare`."""
        seed = f"-seed-{self.run.seed}" if self.run.has_seed else ""
        return f"{self.run.pipeline}-{self.run.stage}{seed}"

    @property
    def objective(self) -> Objective | None:
        """Objective of an adapted encoder; None for other models."""
        return get_objective(self.run.settings.objective) if isinstance(self.run.settings, Adapt) else None

    @property
    def predicts_masked_tokens(self) -> bool:
        """True for an encoder that was adapted to predict masked tokens."""
        return self.objective is not None and self.objective.publishes_masked_lm

    @property
    def epochs(self) -> str:
        """Number of epochs: `8`, or `5 (of 8, by early stopping)`."""
        settings = self.run.settings
        assert isinstance(settings, Adapt | Classify), "other stages do not train"
        epochs = self.metrics.get("epochs_run", settings.epochs)
        return str(epochs) if epochs == settings.epochs else f"{epochs} (of {settings.epochs}, by early stopping)"

    @property
    def names(self) -> list[str]:
        """Names of the classifier's outputs, empty without labels."""
        names: list[str] = self.data["classes"]
        return names

    @property
    def data_settings(self) -> Data:
        """The job file's settings of the data."""
        settings = (self.run if self.run.kind == "prepare" else self.run.data).settings
        assert isinstance(settings, Prepare | DataStage), "no other stage reads data"
        return settings.data

    @property
    def task(self) -> Task:
        """The task of the data."""
        return get_task(self.data_settings.label_type)

    @cached_property
    def evaluation(self) -> Evaluation:
        """Labels, test predictions and the interval of the default metric, of a classifier."""
        table = pq.read_table(self.predictions)
        labels, predictions = (self.task.encode_column(table[name], self.names) for name in ("label", "prediction"))
        interval = self.task.interval(predictions[None], labels)
        return Evaluation(self.names, self.data["labels"], predictions, interval)

    @property
    def is_decontaminated(self) -> bool:
        """True if passages that contain test texts were removed from the corpus."""
        settings = self.run.inputs["corpus"].settings
        assert isinstance(settings, CorpusStage), "no other stage reads a corpus"
        return settings.corpus.decontaminate

    @property
    def chain(self) -> list[StageRun]:
        """The stages that the weights went through, the first stage first, this stage last."""
        runs = [self.run]
        while "encoder" in runs[0].inputs:
            runs.insert(0, runs[0].inputs["encoder"])
        return runs

    @property
    def base_model(self) -> str | None:
        """Hub id of the encoder, if it came from the hub."""
        hub_id: str | None = self.data["encoder"].get("model")
        return hub_id

    @property
    def source(self) -> str:
        """Name of the data: its hub id, or the name of its first file."""
        provenance = self.data["provenance"]
        return str(provenance.get("hub_id") or provenance["files"][0]["name"])


def license_of(model: Path) -> dict[str, str]:
    """Return `license`, `license_name` and `license_link` from the card in a model folder, where they are valid.

    Cards are written by hand: invalid metadata yields no license instead of an error.
    """
    try:
        data = metadata_load(model / CARD) or {}
        fields = {name: data.get(name) for name in ("license", "license_name", "license_link")}
    except Exception:  # any error of the YAML parser, or of metadata that is not a mapping
        return {}
    valid = {
        name: value
        for name, value in fields.items()
        if isinstance(value, str) and 0 < len(value) <= _MAX_LICENSE and value.isprintable()
    }
    return valid if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", valid.get("license", "")) else {}
