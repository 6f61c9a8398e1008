"""Results of adapt stages, and comparison of vocabularies by bits per character."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftjobs.reporting.finding import to_json
from ftjobs.reporting.findings.adaptations import adaptation_results, comparable_bits
from ftjobs.reporting.findings.recommendation import EncoderRecommendation, to_ship
from ftjobs.reporting.inputs.evidence import Evidence
from tests.helpers.published import STAGES, Pipeline, guesses


def test_loss_before_and_after(tmp_path: Path) -> None:
    (result,) = adaptation_results(Pipeline(tmp_path, dict.fromkeys(STAGES, guesses(0.8))).evidence())
    assert result.before["loss"] == 6.0
    assert result.after["loss"].mean == pytest.approx(1.52)
    assert result.seeds["3"].epochs["loss"] == pytest.approx([3.03, 1.53])
    assert not {"vocabulary", "bits_per_character", "parameters", "epochs_run"} & to_json(result).keys()


class Encoders:
    """Adapt stages with chosen losses and tokenizers, with one seed each.

    Args:
        folder: of the artifacts
        stages: fields of each stage
    """

    def __init__(self, folder: Path, **stages: dict[str, Any]) -> None:
        fields = {name: {"kind": "adapt", **fields} for name, fields in stages.items()}
        self.pipeline = Pipeline(folder, {}, stages=fields, classes=(), pairs=False, seeds=[1])

    def set(self, stage: str, loss: float, tokens: list[int] | None = None) -> None:
        """Set the loss, and the tokens of 1,000 held-out characters before and after adding words."""
        metrics = {"loss": loss, "perplexity": math.exp(loss), "accuracy": 0.5}
        values: dict[str, Any] = {"evaluated_on": "test", "before": metrics | {"loss": 2 * loss}, "best": metrics}
        if tokens is not None:
            held_out = {"characters": 1000, "pieces": tokens}
            vocabulary = {"words": 9, "tokens": [90, 99], "pieces_per_word": [1.5, 1.25], "held_out": held_out}
            values["vocabulary"] = vocabulary
        self.pipeline.update(stage, 1, "metrics.json", **values)

    def evidence(self) -> Evidence:
        return self.pipeline.evidence()


def test_bits_count_tokens_of_the_extended_tokenizer(tmp_path: Path) -> None:
    encoders = Encoders(tmp_path, plain={}, worded={}, further={"encoder": "worded"}, again={"encoder": "further"})
    encoders.set("plain", 2.0)
    encoders.set("worded", 2.2, [300, 250])
    encoders.set("further", 2.1)
    encoders.set("again", 2.1, [250, 240])
    results = {result.stage: result for result in adaptation_results(encoders.evidence())}
    for stage, loss, tokens in (("plain", 2.0, 300), ("worded", 2.2, 250), ("further", 2.1, 250), ("again", 2.1, 240)):
        bits = results[stage].bits_per_character
        assert bits is not None
        assert bits.after == pytest.approx(loss / math.log(2) * tokens / 1000)
        assert bits.before == pytest.approx(2 * bits.after)
    assert to_json(results["worded"])["vocabulary"] == {"words": 9, "tokens": [90, 99], "pieces_per_word": [1.5, 1.25]}


def test_bits_are_given_only_for_texts_with_counted_characters(tmp_path: Path) -> None:
    encoders = Encoders(tmp_path, worded={}, elsewhere={}, there={})
    encoders.set("worded", 2.2, [300, 250])
    encoders.set("elsewhere", 1.0)
    encoders.set("there", 1.0)
    evidence = encoders.evidence()
    worded, elsewhere, there = evidence.adaptations
    elsewhere.settings["corpus"] = {"source": "other.txt", "unit": "packed"}
    there.settings["corpus"] = {"source": "other.txt", "unit": "document"}
    assert comparable_bits(evidence, elsewhere, 1.0) is None
    there.runs[0].metrics["vocabulary"] = worded.runs[0].metrics["vocabulary"] | {
        "held_out": {"characters": 1000, "pieces": [400, 350]}
    }
    del worded.runs[0].metrics["vocabulary"]
    assert comparable_bits(evidence, elsewhere, 1.0) == pytest.approx(1.0 / math.log(2) * 0.4)


def shipped(encoders: Encoders) -> EncoderRecommendation:
    published: Any = {
        f"{stage.name}/seed-1": SimpleNamespace(key=stage.name) for stage in encoders.evidence().adaptations
    }
    recommendation = to_ship(encoders.evidence(), published)
    assert isinstance(recommendation, EncoderRecommendation)
    return recommendation


def test_encoder_with_fewest_bits_is_shipped(tmp_path: Path) -> None:
    """`plain` has the lower loss per token, but more tokens."""
    encoders = Encoders(tmp_path, plain={}, worded={})
    encoders.set("plain", 2.0)
    encoders.set("worded", 2.2, [300, 250])
    recommendation = shipped(encoders)
    assert recommendation.stage == "worded"
    assert recommendation.bits_per_character == pytest.approx(2.2 / math.log(2) * 0.25)


def test_encoder_with_lowest_loss_is_shipped_without_added_words(tmp_path: Path) -> None:
    encoders = Encoders(tmp_path, a={}, b={})
    encoders.set("a", 2.0)
    encoders.set("b", 1.9)
    recommendation = shipped(encoders)
    assert recommendation.stage == "b"
    assert "bits_per_character" not in recommendation.json_fields()
