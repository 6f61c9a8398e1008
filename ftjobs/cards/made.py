"""What a card is made of: one finished stage, seen from where its files are still in a work folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ftjobs.cards import basecard
from ftjobs.data import prepared
from ftjobs.data.corpora import curation
from ftjobs.data.corpora.curation import CorpusRecord
from ftjobs.data.prepared import DataSummary
from ftjobs.jobfile.fields import Adapt, Data
from ftjobs.plan import CorpusStage, DataStage, Prepare, StageRun
from ftjobs.statistics import score_interval


@dataclass(frozen=True)
class CardContext:
    """A stage that has run."""

    run: StageRun
    metrics: dict[str, Any]
    data: DataSummary
    """`data.json` of the stage that brought its data, with what `prepare` found out about the encoder."""
    base: dict[str, str]
    """What the base model's own card says of its licence."""
    environment: dict[str, str]
    """Versions of what the result depends on."""
    model: Path
    """The folder of the checkpoint."""
    predictions: Path
    """`predictions.parquet`, of classifiers."""
    timing: dict[str, Any]
    """What it was trained on; empty of what was not trained."""
    corpus: CorpusRecord | None = None
    """The record of the corpus that it was adapted to, if that was one of its own."""

    @classmethod
    def of(
        cls,
        run: StageRun,
        inputs: dict[str, Path],
        output: Path,
        metrics: dict[str, Any],
        environment: dict[str, str],
    ) -> CardContext:
        """From what the runner knows: the run, the folders it read and filled, and its metrics."""
        prepare = output if run.kind == "prepare" else inputs["prepare"]
        data = prepared.read_summary(prepare / "data")
        if "data" in inputs:
            data = {**prepared.read_summary(inputs["data"] / "data"), "encoder": data["encoder"]}
        return cls(
            run=run,
            metrics=metrics,
            data=data,
            base=basecard.license_of(prepare / "model"),
            environment=environment,
            corpus=curation.read_record(inputs["corpus"] / "corpus") if "corpus" in inputs else None,
            model=output / "model",
            predictions=output / "predictions.parquet",
            timing=json.loads((output / "timing.json").read_text()) if run.has_seed else {},
        )

    @property
    def name(self) -> str:
        """The model's name: `quickstart-head-seed-1`, `quickstart-prepare`."""
        seed = f"-seed-{self.run.seed}" if self.run.has_seed else ""
        return f"{self.run.pipeline}-{self.run.stage}{seed}"

    @property
    def finds_replaced(self) -> bool:
        """Whether it is an ELECTRA that was adapted to tell replaced tokens, and so does not fill masks."""
        return isinstance(self.run.settings, Adapt) and self.run.settings.objective == "replaced-token"

    @property
    def classes(self) -> list[str]:
        """Names of the classes, none where there are no labels."""
        found: list[str] = self.data["classes"]
        return found

    @property
    def labelled(self) -> Data:
        """The settings of the data, which say where its labels stand."""
        bringing = (self.run if self.run.kind == "prepare" else self.run.data).settings
        assert isinstance(bringing, Prepare | DataStage), "nothing else brings data"
        return bringing.data

    @property
    def label_type(self) -> str:
        """What the labels are."""
        return self.labelled.label_type

    def error_interval(self) -> tuple[float, float]:
        """Of the mean squared error, where labels are numbers: 95 %, a bootstrap's over test rows."""
        table = pq.read_table(self.predictions)
        errors = (table["prediction"].to_numpy() - table["label"].to_numpy()) ** 2
        found = score_interval(errors[None], seed=0)
        return found.low, found.high

    @property
    def decontaminated(self) -> bool:
        """Whether the corpus was searched for test texts."""
        settings = self.run.inputs["corpus"].settings
        assert isinstance(settings, CorpusStage), "nothing else brings a corpus"
        return settings.corpus.decontaminate

    @property
    def chain(self) -> list[StageRun]:
        """The stages this one's weights went through, the first first, itself last."""
        found = [self.run]
        while "encoder" in found[0].inputs:
            found.insert(0, found[0].inputs["encoder"])
        return found

    @property
    def base_model(self) -> str | None:
        """Hub id of the encoder, if it came from the hub."""
        found: str | None = self.data["encoder"].get("model")
        return found

    @property
    def source(self) -> str:
        """Name of the data: its hub id, or the name of its first file."""
        provenance = self.data["provenance"]
        return str(provenance.get("hub_id") or provenance["files"][0]["name"])
