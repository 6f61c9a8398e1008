"""What published models say about themselves is true, loads, and cannot be bent by the names in a job or its data."""

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
from tests.helpers.families import WORDS
from tests.helpers.pipelines import job_fields, run_job

CLASSES = ["---\nlicense: mit", "a | b `c` <script>alert(1)</script>", "![x](http://x.invalid/x.png)"]
COLUMNS = ["first | text", "<b>second</b>"]
BASE_CARD = "---\nlicense: apache-2.0\nlanguage: en\n---\n\n# The base\n\nMade by somebody else.\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_encoder: Callable[..., Path]) -> Any:
    """A finished pipeline on hostile data and an encoder with a card of its own: folder, storage, manifests."""
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


def pulled(made: Any, title: str, tmp_path: Path) -> Path:
    _, storage, manifests = made
    artifacts.pull(storage, manifests[title], tmp_path / "model")
    return tmp_path / "model"


def fence(card: str, language: str) -> str:
    found = re.search(rf"^(```+){language}\n(.*?)\n\1$", card, re.MULTILINE | re.DOTALL)
    assert found, language
    return found[2]


def test_the_metadata_of_a_classifier_is_what_the_hub_reads(made: Any, tmp_path: Path) -> None:
    folder = pulled(made, "adapted-head seed 1", tmp_path)
    data = ModelCard.load(folder / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("transformers", "text-classification", "apache-2.0")
    assert data.base_model is None  # the encoder came from a folder
    assert data.model_name == "toy-adapted-head-seed-1"
    metrics = made[2]["adapted-head seed 1"].metrics
    results = {result.metric_type: result for result in data.eval_results}
    assert results["accuracy"].metric_value == pytest.approx(metrics["accuracy"], abs=1e-6)
    assert results["f1"].metric_value == pytest.approx(metrics["f1"], abs=1e-6)
    assert results["f1"].metric_args == {"average": "macro"}
    assert {result.dataset_split for result in data.eval_results} == {"test"}
    assert {result.dataset_name for result in data.eval_results} == {"rows.csv"}


def test_the_metadata_of_an_adapted_encoder(made: Any, tmp_path: Path) -> None:
    data = ModelCard.load(pulled(made, "adapt seed 1", tmp_path) / "README.md").data
    assert (data.pipeline_tag, data.license) == ("fill-mask", "apache-2.0")
    (result,) = data.eval_results
    assert result.metric_type == "perplexity"
    assert result.metric_value == pytest.approx(made[2]["adapt seed 1"].metrics["best"]["perplexity"], abs=1e-6)


def test_the_base_model_keeps_the_card_it_came_with(made: Any, tmp_path: Path) -> None:
    assert (pulled(made, "prepare", tmp_path) / "README.md").read_text() == BASE_CARD


@pytest.mark.parametrize("title", ["adapt seed 1", "adapted-head seed 1"])
def test_what_the_card_says_to_run_runs(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, title: str) -> None:
    folder = pulled(made, title, tmp_path)
    monkeypatch.chdir(folder)
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(fence((folder / "README.md").read_text(), "python"), "README.md", "exec"), {})
    if title == "adapt seed 1":
        assert "token_str" in printed.getvalue()
    else:
        assert any(repr(name) in printed.getvalue() for name in CLASSES)


def test_the_job_in_the_card_leads_to_the_same_identities(made: Any, tmp_path: Path) -> None:
    source, _, manifests = made
    card = (pulled(made, "adapted-head seed 1", tmp_path) / "README.md").read_text()
    assert str(source) not in card
    shutil.copytree(source / "encoder", tmp_path / "encoder")
    shutil.copy(source / "rows.csv", tmp_path)
    (tmp_path / "job.yaml").write_text(fence(card, "yaml"))
    runs = plan(read(tmp_path / "job.yaml"))
    for title in ("prepare", "adapt seed 1", "adapted-head seed 1"):
        identity = select(runs, title.split()[0]).identity
        assert identity == manifests[title].identity
        assert f"`{identity}`" in card
    for command in re.findall(r"`ftjobs stage job.yaml ([^`]+)`", card):
        stage, *seed = command.split(" --seed ")
        select(runs, stage, int(seed[0]) if seed else None)


def test_the_interval_is_wilsons(made: Any, tmp_path: Path) -> None:
    card = (pulled(made, "adapted-head seed 1", tmp_path) / "README.md").read_text()
    accuracy = made[2]["adapted-head seed 1"].metrics["accuracy"]
    interval = binomtest(round(12 * accuracy), 12).proportion_ci(method="wilson")
    assert (
        f"| accuracy | {100 * accuracy:.2f} % | {100 * interval.low:.2f} % to {100 * interval.high:.2f} % |"
    ) in card


def test_names_are_shown_as_they_are_and_never_as_markup(made: Any, tmp_path: Path) -> None:
    """Read by a Markdown parser: the names come out as text, and nothing of them as HTML, links, images or rules."""
    for title in ("adapted-head seed 1", "adapt seed 1"):
        folder = pulled(made, title, tmp_path / title)
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


def test_facts_say_what_the_model_takes(made: Any, tmp_path: Path) -> None:
    facts = ModelInfo.read(pulled(made, "adapted-head seed 1", tmp_path))
    manifest = made[2]["adapted-head seed 1"]
    assert facts.identity == manifest.identity
    assert facts.text_columns == COLUMNS
    assert facts.classes == sorted(CLASSES)
    assert facts.label_column == "la`bel"
    config = json.loads((tmp_path / "model/config.json").read_text())
    assert list(config["id2label"].values()) == facts.classes
    assert facts.max_length == 64


def test_an_encoder_without_a_card_gets_a_short_one_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = job_fields(None, hypotheses=[])
    fields["stages"] = {"adapt": {"kind": "adapt", "epochs": 1}}
    storage, manifests = run_job(tmp_path, fields, tmp_path / "store")
    artifacts.pull(storage, manifests["prepare"], tmp_path / "model")
    monkeypatch.chdir(tmp_path / "model")
    card = Path("README.md").read_text()
    assert "random weights" in card
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(fence(card, "python"), "README.md", "exec"), {})
    assert "torch.Size([1, " in printed.getvalue()
    assert yaml.safe_load(fence(card, "yaml"))["encoder"]["scratch"]["hidden_size"] == 32
