"""Parts of cards on their own: licences, limitations, Markdown, the job file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard

from ftjobs.cards.basecard import license_of
from ftjobs.cards.limits import limitations
from ftjobs.cards.made import CardContext
from ftjobs.cards.markdown import code, fenced
from ftjobs.cards.metadata import card_data
from ftjobs.cards.recipe import job_text
from ftjobs.cards.text import body
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select

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
def made(tmp_path: Path) -> Any:
    """`made(stage, **metrics)`: a run on data and an encoder from the hub, without having run."""
    (tmp_path / "job.yaml").write_text(JOB)
    runs = plan(read(tmp_path / "job.yaml"))

    def make(
        stage: str, predictions: str = "yn" * 50, timing: dict[str, Any] | None = None, **metrics: Any
    ) -> CardContext:
        pq.write_table(pa.table({"prediction": list(predictions)}), tmp_path / "predictions.parquet")
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
        found: dict[str, Any] = {"truncated": {"train": 0, "test": 0}, "max_length": 128, "newly_initialised": []}
        found |= {"accuracy": 0.8, "f1": 0.7, "loss": 0.5, "best_epoch": 2, "selected_on": "validation"}
        found |= {"last": {"accuracy": 0.78, "f1": 0.69, "loss": 0.6}, **metrics}
        return CardContext(
            run=select(runs, stage),
            metrics=found,
            data=data,
            base={"license": "mit"},
            environment={},
            model=tmp_path,
            predictions=tmp_path / "predictions.parquet",
            timing=timing or {"device": "cpu", "mixed_precision": "no", "processes": 1},
        )

    return make


def test_what_came_from_the_hub_is_named_by_its_id_and_commit(made: Any) -> None:
    head = made("head", selected_on="test")
    data = card_data(head)
    assert (data.base_model, data.datasets, data.license) == ("me/bert", ["me/pairs"], "mit")
    assert {result.dataset_revision for result in data.eval_results} == {"c" * 40}
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n{body(head)}")
    assert card.data.to_dict() == data.to_dict()
    assert "e" * 40 in card.text
    assert "c" * 40 in card.text


def test_metrics_that_are_not_finite_are_left_out(made: Any) -> None:
    before = {"perplexity": 9.0, "accuracy": 0.1}
    data = card_data(made("adapt", evaluated_on="test", before=before, best={"perplexity": float("inf")}))
    assert data.eval_results is None
    assert "model-index" not in data.to_dict()


def test_limitations_of_a_classifier_are_those_of_its_run(made: Any) -> None:
    good = " ".join(limitations(made("head")))
    assert "answering `n` every time reaches 60.00 %" in good
    for absent in ("optimistic", "also stands in training", "one answer", "cut", "Not better"):
        assert absent not in good
    assert "optimistic; the last epoch reached 78.00 %" in " ".join(limitations(made("head", selected_on="test")))
    assert "predicted to be `y`" in " ".join(limitations(made("head", predictions="y" * 100)))
    assert "Not better than a constant" in " ".join(limitations(made("head", accuracy=0.62)))
    cut = " ".join(limitations(made("head", truncated={"train": 7, "test": 2})))
    assert "7 of 900 training rows were longer than 128 tokens" in cut
    assert "2 of 100 test rows" in cut
    leaking = made("head")
    leaking.data["overlap"]["test"] |= {"rows_in_training": 93}
    assert "93 of 100 test rows have a text that also stands in training" in " ".join(limitations(leaking))


def test_limitations_of_adaptation_are_those_of_its_run(made: Any) -> None:
    fields = {"before": {"perplexity": 9.0}, "best": {"perplexity": 12.0}, "texts": 80, "truncated": 3}
    seen = " ".join(limitations(made("adapt", evaluated_on="test", evaluation_texts_also_trained_on=True, **fields)))
    assert "were trained on too" in seen
    assert "did not lower perplexity" in seen
    assert "3 of 80 texts" in seen
    fields["best"] = {"perplexity": 4.0}
    new = " ".join(
        limitations(made("adapt", evaluated_on="validation", evaluation_texts_also_trained_on=False, **fields))
    )
    assert "trained on too" not in new
    assert "did not lower" not in new


@pytest.mark.parametrize(
    ("card", "said"),
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
def test_a_base_models_licence_is_what_its_card_says_if_it_says(
    tmp_path: Path, card: str | bytes, said: dict[str, str]
) -> None:
    (tmp_path / "README.md").write_bytes(card if isinstance(card, bytes) else card.encode())
    assert license_of(tmp_path) == said


def test_a_base_model_without_a_card_has_no_licence(tmp_path: Path) -> None:
    assert license_of(tmp_path) == {}


def test_code_is_a_span_where_it_can_be_and_character_references_where_not() -> None:
    assert code("question_1") == "`question_1`"
    assert code("a*b_c [d]") == "`a*b_c [d]`"
    assert code("a|b") == "<code>a&#124;b</code>"
    assert code("`") == "<code>&#96;</code>"
    assert code(" x") == "<code>&#32;x</code>"
    assert code("") == "<code></code>"
    assert code("a\nb") == "<code>a&#92;nb</code>"
    assert len(code("x" * 500)) < 200


def test_nothing_closes_a_fence_early() -> None:
    assert fenced("a\n```\nb", "yaml") == "````yaml\na\n```\nb\n````"


def test_sources_of_several_files_keep_what_tells_them_apart(tmp_path: Path) -> None:
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
        beside = tmp_path if source == "deep" else tmp_path / "deep"
        (beside / "again.yaml").write_text(text)
        again = plan(read(beside / "again.yaml"))
        assert [select(again, run.stage).identity for run in chain] == [run.identity for run in chain]


def test_a_card_says_what_several_processes_make_of_the_batch(made: Any) -> None:
    assert "AdamW in fp32 on `cpu`, evaluation in fp32.\n" in body(made("head", selected_on="test"))
    text = body(made("head", selected_on="test", timing={"device": "cuda", "mixed_precision": "bf16", "processes": 16}))
    assert "AdamW in bf16 on `cuda`, evaluation in fp32. It was trained on 16 processes, 128 examples a step" in text
    assert "`--num-processes 16`" in text
