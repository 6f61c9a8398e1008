"""Parts of model cards: licenses, limitations, Markdown, the job file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from ftjobs.cards.card import render_card
from ftjobs.cards.context import CardContext, license_of
from ftjobs.cards.markdown import code, fenced
from ftjobs.cards.metadata import card_data
from ftjobs.cards.recipe import job_text
from ftjobs.cards.sections import limitations
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from tests.helpers.messages import mentions

HUB = {"hub_id": "me/pairs", "revision": "main", "commit": "c" * 40, "config": None}
JOB = """\
name: small
encoder: {model: me/bert}
data: {source: me/pairs, text: [a, b], label: same, split: {test_fraction: 0.1}}
stages:
  adapt: {kind: adapt, epochs: 2, corpus: all}
  head: {kind: classify, encoder: adapt, epochs: 4, freeze_encoder: true}
"""


@pytest.fixture
def context_of(tmp_path: Path) -> Any:
    """`context_of(stage, **metrics)`: the context of a stage on data and an encoder from the hub that has not run."""
    (tmp_path / "job.yaml").write_text(JOB)
    runs = plan(read(tmp_path / "job.yaml"))

    def make(
        stage: str, predictions: str = "yn" * 50, timing: dict[str, Any] | None = None, **metrics: Any
    ) -> CardContext:
        accuracy = metrics.get("accuracy", 0.8)
        labels = [name if row < 100 * accuracy else {"n": "y", "y": "n"}[name] for row, name in enumerate(predictions)]
        table = pa.table({"label": labels, "prediction": list(predictions)})
        pq.write_table(table, tmp_path / "predictions.parquet")
        data = {
            "classes": ["n", "y"],
            "rows": {"train": 900, "test": 100},
            "labels": {"train": {"n": 500, "y": 400}, "test": {"n": 60, "y": 40}},
            "overlap": {"test": {"texts": 200, "texts_in_training": 0, "rows": 100, "rows_in_training": 0}},
            "text_columns": ["a", "b"],
            "split": {"test_fraction": 0.1, "validation_fraction": None, "seed": 42, "group_by": None},
            "provenance": HUB,
            "encoder": {"model": "me/bert", "revision": "main", "commit": "e" * 40},
        }
        values: dict[str, Any] = {"truncated": {"train": 0, "test": 0}, "max_length": 128, "newly_initialised": []}
        values |= {"accuracy": 0.8, "f1": 0.7, "loss": 0.5, "best_epoch": 2, "selected_on": "validation"}
        values |= {"last": {"accuracy": 0.78, "f1": 0.69, "loss": 0.6}, **metrics}
        return CardContext(
            run=select(runs, stage),
            metrics=values,
            data=data,
            base={"license": "mit"},
            environment={},
            model=tmp_path,
            predictions=tmp_path / "predictions.parquet",
            timing=timing or {"device": "cpu", "mixed_precision": "no", "processes": 1},
        )

    return make


def test_hub_sources_are_named_by_id_and_commit(context_of: Any) -> None:
    head = context_of("head", selected_on="test")
    data = card_data(head)
    assert (data.base_model, data.datasets, data.license) == ("me/bert", ["me/pairs"], "mit")
    assert {result.dataset_revision for result in data.eval_results} == {"c" * 40}
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n{render_card(head)}")
    assert card.data.to_dict() == data.to_dict()
    assert "e" * 40 in card.text
    assert "c" * 40 in card.text


def test_metadata_omits_metrics_that_are_not_finite(context_of: Any) -> None:
    before = {"perplexity": 9.0, "accuracy": 0.1}
    data = card_data(context_of("adapt", evaluated_on="test", before=before, best={"perplexity": float("inf")}))
    assert data.eval_results is None
    assert "model-index" not in data.to_dict()


def test_limitations_of_classifier_follow_from_its_metrics(context_of: Any) -> None:
    def text(**changes: Any) -> str:
        return " ".join(limitations(context_of("head", **changes)))

    good = text()
    assert mentions(good, "predicting `n`", "60.00 %")
    for absent in ("optimistic", "share a text", "for every", "truncated", "Not better"):
        assert absent not in good
    assert mentions(text(selected_on="test"), "optimistic", "accuracy 78.00 %")
    assert "`y` for every" in text(predictions="y" * 100)
    assert "Not better" in text(accuracy=0.62)
    cut = text(truncated={"train": 7, "test": 2})
    assert mentions(cut, "7 of 900", "(0.8 %)")
    assert mentions(cut, "2 of 100", "(2.0 %)")
    assert "128 tokens" in cut
    leaking = context_of("head")
    leaking.data["overlap"]["test"] |= {"rows_in_training": 93}
    assert "93 of 100" in " ".join(limitations(leaking))


def test_limitations_of_adapted_encoder_follow_from_its_metrics(context_of: Any) -> None:
    fields = {"before": {"perplexity": 9.0}, "texts": 80, "truncated": 3}

    def text(perplexity: float, *, split: str, trained_on: bool) -> str:
        best = {"perplexity": perplexity}
        context = context_of(
            "adapt", evaluated_on=split, evaluation_texts_also_trained_on=trained_on, best=best, **fields
        )
        return " ".join(limitations(context))

    worse = text(12.0, split="test", trained_on=True)
    assert "training texts" in worse
    assert "did not lower" in worse
    assert "3 of 80" in worse
    better = text(4.0, split="validation", trained_on=False)
    assert "training texts" not in better
    assert "did not lower" not in better


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: mit\n---\n", {"license": "mit"}),
        (
            "---\nlicense: other\nlicense_name: l\nlicense_link: https://x.invalid\n---\n",
            {"license": "other", "license_name": "l", "license_link": "https://x.invalid"},
        ),
        ("---\nlicense: [mit, bsd]\n---\n", {}),
        ('---\nlicense: "mit\\n- x"\n---\n', {}),
        ("---\nlicense: <b>\n---\n", {}),
        ("---\nlicense_name: lonely\n---\n", {}),
        ("---\nlicense: mit\nmodel-index: 7\n---\n", {"license": "mit"}),
        ("---\n: [\n---\n", {}),
        ("---\n- 1\n---\n", {}),
        ("---\n1: 2\nlicense: mit\n---\n", {"license": "mit"}),
        ("---\n!!python/object/apply:os.system [ls]\n---\n", {}),
        ("# only text\n", {}),
        ("", {}),
        (b"\xff\xfe\x00", {}),
    ],
)
def test_license_is_read_from_valid_card_metadata_only(
    tmp_path: Path, card: str | bytes, expected: dict[str, str]
) -> None:
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert license_of(tmp_path) == expected


def test_license_of_model_without_card_is_empty(tmp_path: Path) -> None:
    assert license_of(tmp_path) == {}


def test_code_escapes_markup_with_character_references() -> None:
    assert code("question_1") == "`question_1`"
    assert code("a*b_c [d]") == "`a*b_c [d]`"
    assert code("a|b") == "<code>a&#124;b</code>"
    assert code("`") == "<code>&#96;</code>"
    assert code(" x") == "<code>&#32;x</code>"
    assert code("") == "<code></code>"
    assert code("a\nb") == "<code>a&#92;nb</code>"
    assert len(code("x" * 500)) < 200


def test_fence_is_longer_than_any_in_the_text() -> None:
    assert fenced("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"


def test_job_text_keeps_identities_for_sources_in_folders(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / "deep" / split).mkdir(parents=True)
        (tmp_path / "deep" / split / "rows.csv").write_text(f"t,l\n{split} a,0\n{split} b,1\n")
    job = JOB.replace("source: me/pairs", "source: {train: deep/train/rows.csv, test: deep/test/rows.csv}")
    job = job.replace("text: [a, b], label: same, split: {test_fraction: 0.1}", "text: t, label: l")
    (tmp_path / "job.yaml").write_text(job)
    for source in ("deep/train/rows.csv", "deep/*/rows.csv", "deep"):
        overrides = [] if source == "deep/train/rows.csv" else [f"data.source={source}", "data.split.test_fraction=0.5"]
        runs = plan(read(tmp_path / "job.yaml", [text.replace("=deep", f"={tmp_path}/deep") for text in overrides]))
        chain = [runs[0], select(runs, "adapt"), select(runs, "head")]
        text = job_text(chain)
        assert str(tmp_path) not in text
        new_folder = tmp_path if source == "deep" else tmp_path / "deep"
        (new_folder / "again.yaml").write_text(text)
        again = plan(read(new_folder / "again.yaml"))
        assert [select(again, run.stage).identity for run in chain] == [run.identity for run in chain]


def test_card_states_processes_and_examples_per_step(context_of: Any) -> None:
    single = render_card(context_of("head", selected_on="test"))
    assert mentions(single, "AdamW in fp32", "`cpu`", "fp32.\n\n")
    assert "processes" not in single
    text = render_card(
        context_of("head", selected_on="test", timing={"device": "cuda", "mixed_precision": "bf16", "processes": 16})
    )
    assert mentions(text, "AdamW in bf16", "`cuda`", "in fp32.", "16 processes", "128 examples")
    assert "`--num-processes 16`" in text
