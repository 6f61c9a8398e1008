"""Cards of published models: true metadata, running examples, and names that cannot inject markup."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from scipy.stats import binomtest

from ftjobs import artifacts
from ftjobs.cards import ModelInfo
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from tests.helpers.cards import fenced_block
from tests.helpers.families import WORDS
from tests.helpers.pipelines import job_fields, run_job

CLASSES = ["---\nlicense: mit", "a | b `c` <script>alert(1)</script>", "![x](http://x.invalid/x.png)"]
COLUMNS = ["first | text", "<b>second</b>"]
BASE_CARD = "---\nlicense: apache-2.0\nlanguage: en\n---\n\n# The base\n\nMade by somebody else.\n"


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    """A finished pipeline on hostile names and an encoder that has a card: folder, storage, manifests."""
    folder = tmp_path_factory.mktemp("cards")
    shutil.copytree(make_encoder("bert", "pretraining"), folder / "encoder")
    (folder / "encoder/README.md").write_text(BASE_CARD)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "la`bel"])
        for row in range(60):
            words = WORDS[row % 37 : row % 37 + 5]
            writer.writerow([" ".join(words), f"{row // 2} {' '.join(words[::-1])}", CLASSES[row % 3]])
    fields = job_fields(folder / "encoder", hypotheses=[])
    fields["data"] |= {"text": COLUMNS, "label": "la`bel"}
    fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head")}
    storage, manifests = run_job(folder, fields, folder / "store")
    return folder, storage, manifests


def pulled(pipeline: Any, title: str, tmp_path: Path) -> Path:
    _, storage, manifests = pipeline
    artifacts.pull(storage, manifests[title], tmp_path / "model")
    return tmp_path / "model"


def test_metadata_of_classifier_is_valid_for_the_hub(pipeline: Any, tmp_path: Path) -> None:
    folder = pulled(pipeline, "adapted-head seed 1", tmp_path)
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-classification", "apache-2.0")
    assert data.base_model is None  # the encoder came from a folder
    assert data.model_name == "toy-adapted-head-seed-1"
    metrics = pipeline[2]["adapted-head seed 1"].metrics
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == pytest.approx(metrics["accuracy"], abs=1e-6)
    assert results["f1"].metric_value == pytest.approx(metrics["f1"], abs=1e-6)
    assert results["f1"].metric_args == {"average": "macro"}
    assert {result.dataset_split for result in data.eval_results} == {"test"}
    assert {result.dataset_name for result in data.eval_results} == {"rows.csv"}


def test_metadata_of_adapted_encoder_has_perplexity(pipeline: Any, tmp_path: Path) -> None:
    data = ModelCard.load(pulled(pipeline, "adapt seed 1", tmp_path) / "README.md").data
    assert (data.pipeline_tag, data.license) == ("fill-mask", "apache-2.0")
    (result,) = data.eval_results
    assert result.metric_type == "perplexity"
    assert result.metric_value == pytest.approx(pipeline[2]["adapt seed 1"].metrics["best"]["perplexity"], abs=1e-6)


def test_base_model_keeps_its_card(pipeline: Any, tmp_path: Path) -> None:
    assert (pulled(pipeline, "prepare", tmp_path) / "README.md").read_text() == BASE_CARD


@pytest.mark.parametrize("title", ["adapt seed 1", "adapted-head seed 1"])
def test_usage_example_runs(pipeline: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    folder = pulled(pipeline, title, tmp_path)
    monkeypatch.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(fenced_block((folder / "README.md").read_text(), "python"), "README.md", "exec"), {})
    if title == "adapt seed 1":
        assert "token_str" in printed.getvalue()
    else:
        assert any(repr(name) in printed.getvalue() for name in CLASSES)


def test_job_file_in_card_has_the_same_identities(pipeline: Any, tmp_path: Path) -> None:
    source, _, manifests = pipeline
    card = (pulled(pipeline, "adapted-head seed 1", tmp_path) / "README.md").read_text()
    assert str(source) not in card
    shutil.copytree(source / "encoder", tmp_path / "encoder")
    shutil.copy(source / "rows.csv", tmp_path)
    (tmp_path / "job.yaml").write_text(fenced_block(card, "yaml"))
    runs = plan(read(tmp_path / "job.yaml"))
    for title in ("prepare", "adapt seed 1", "adapted-head seed 1"):
        identity = select(runs, title.split()[0]).identity
        assert identity == manifests[title].identity
        assert f"`{identity}`" in card
    for command in re.findall(r"`ftjobs stage job.yaml ([^`]+)`", card):
        stage, *seed = command.split(" --seed ")
        select(runs, stage, int(seed[0]) if seed else None)


def test_accuracy_interval_is_wilsons(pipeline: Any, tmp_path: Path) -> None:
    card = (pulled(pipeline, "adapted-head seed 1", tmp_path) / "README.md").read_text()
    accuracy = pipeline[2]["adapted-head seed 1"].metrics["accuracy"]
    interval = binomtest(round(12 * accuracy), 12).proportion_ci(method="wilson")
    assert (
        f"| accuracy | {100 * accuracy:.2f} % | {100 * interval.low:.2f} % to {100 * interval.high:.2f} % |"
    ) in card


def test_names_are_shown_literally_and_never_as_markup(pipeline: Any, tmp_path: Path) -> None:
    """A Markdown parser yields the names as text, and no HTML, links, images or rules."""
    for title in ("adapted-head seed 1", "adapt seed 1"):
        folder = pulled(pipeline, title, tmp_path / title)
        tokens = MarkdownIt("commonmark").enable("table").parse(ModelCard.load(folder / "README.md").text)
        inline = [child for token in tokens for child in token.children or ()]
        kinds = {token.type for token in [*tokens, *inline]}
        assert not kinds & {"link_open", "image", "hr", "html_block", "em_open", "strong_open"}
        assert {token.content for token in inline if token.type == "html_inline"} == {"<code>", "</code>"}
        rows = "".join(token.type[:2] for token in tokens if token.type in ("tr_open", "td_open", "th_open"))
        assert set(re.findall(r"tr((?:td|th)*)", rows)) <= {
            *("th" * 3, "td" * 3, "th" * 4, "td" * 4, "th" * 2, "td" * 2)
        }
        text = "".join(child.content for child in inline if child.type in ("text", "code_inline", "text_special"))
        for name in COLUMNS if title == "adapt seed 1" else [*COLUMNS, *CLASSES]:
            assert name.replace("\n", r"\n") in text
    data = ModelCard.load(folder / "README.md").data
    assert data.license == "apache-2.0"


def test_model_info_describes_inputs_and_outputs(pipeline: Any, tmp_path: Path) -> None:
    info = ModelInfo.read(pulled(pipeline, "adapted-head seed 1", tmp_path))
    manifest = pipeline[2]["adapted-head seed 1"]
    assert info.identity == manifest.identity
    assert info.text_columns == COLUMNS
    assert info.classes == sorted(CLASSES)
    assert info.label_column == "la`bel"
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert list(config["id2label"].values()) == info.classes
    assert info.max_length == 64


def test_encoder_without_card_gets_one_with_running_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = job_fields(None, hypotheses=[])
    fields["stages"] = {"adapt": {"kind": "adapt", "epochs": 1}}
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    artifacts.pull(storage, manifests["prepare"], tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    card = Path("README.md").read_text()
    assert "random weights" in card
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(fenced_block(card, "python"), "README.md", "exec"), {})
    assert "torch.Size([1, " in printed.getvalue()
    assert yaml.safe_load(fenced_block(card, "yaml"))["encoder"]["scratch"]["hidden_size"] == 32
