"""Encoders of different vocabularies are compared by bits per character, of texts that both were measured on."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftjobs.reporting.findings import adaptations, recommendation
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Run, Stage


def stage(name: str, loss: float, pieces: list[int] | None = None, corpus: Any = "train") -> Stage:
    best = {"loss": loss, "perplexity": math.exp(loss), "accuracy": 0.5}
    metrics: dict[str, Any] = {"evaluated_on": "test", "before": best | {"loss": 2 * loss}, "best": best}
    if pieces is not None:
        held_out = {"characters": 1000, "pieces": pieces}
        metrics["vocabulary"] = {"words": 9, "tokens": [90, 99], "pieces_per_word": [1.5, 1.25], "held_out": held_out}
    return Stage(name, {"corpus": corpus}, [Run(1, Path(), metrics, {})])


def evidence(stages: list[Stage], encoders: dict[str, str]) -> Evidence:
    jobs = {one.name: {"encoder": encoders[one.name]} if one.name in encoders else {} for one in stages}
    report: Any = SimpleNamespace(job={"stages": jobs})
    nothing: Any = None
    return Evidence(report, nothing, {}, strategies=[], adaptations=stages, intermediate=[])


def test_each_stage_is_measured_in_pieces_of_its_own_vocabulary() -> None:
    stages = [
        stage("plain", 2.0),
        stage("worded", 2.2, [300, 250]),
        stage("further", 2.1),
        stage("again", 2.1, [250, 240]),
        stage("elsewhere", 1.0, corpus={"source": "other.txt", "unit": "packed"}),
    ]
    found = adaptations.vocabulary_effects(evidence(stages, {"further": "worded", "again": "further"}))
    pieces = {"plain": 300, "worded": 250, "further": 250, "again": 240}
    for one in stages[:4]:
        loss = one.runs[0].metrics["best"]["loss"]
        bits = found[one.name]["bits_per_character"]
        assert bits["after"] == pytest.approx(loss / math.log(2) * pieces[one.name] / 1000)
        assert bits["before"] == pytest.approx(2 * bits["after"])
    assert found["elsewhere"] == {}  # nobody counted its texts
    stages.append(stage("worded-there", 1.0, [400, 350], corpus={"source": "other.txt", "unit": "document"}))
    bits = adaptations.vocabulary_effects(evidence(stages[4:], {}))["elsewhere"]["bits_per_character"]
    assert bits["after"] == pytest.approx(1.0 / math.log(2) * 0.4)
    assert found["worded"]["vocabulary"] == {"words": 9, "tokens": [90, 99], "pieces_per_word": [1.5, 1.25]}


def test_the_encoder_to_ship_has_the_fewest_bits() -> None:
    """`plain` has the lower loss per token, of more tokens."""
    stages = [stage("plain", 2.0), stage("worded", 2.2, [300, 250])]
    published: Any = {f"{one.name}/seed-1": SimpleNamespace(key=one.name) for one in stages}
    chosen = recommendation._encoder_to_ship(evidence(stages, {}), published)
    assert chosen["stage"] == "worded"
    assert chosen["bits_per_character"] == pytest.approx(2.2 / math.log(2) * 0.25)
    without = recommendation._encoder_to_ship(
        evidence([stage("a", 2.0), stage("b", 1.9)], {}), {"b/seed-1": SimpleNamespace(key="b")}
    )
    assert without["stage"] == "b"
    assert "bits_per_character" not in without
    assert adaptations.vocabulary_effects(evidence([stage("a", 2.0)], {})) == {}
