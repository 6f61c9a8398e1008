"""Hub data sets, read with the real `datasets` and `huggingface_hub` from a fake hub."""

import io

import huggingface_hub.constants
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from ftjobs.data.readers.hub_datasets import DatasetScriptError
from ftjobs.data.readers.sources import read
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Data
from tests.fakes.hub import point_libraries_at
from tests.helpers.messages import mentions

MAIN, OLD, EXPORT = "a" * 40, "b" * 40, "c" * 40
EXPORT_BRANCH = "refs/convert/parquet"


def parquet(texts: list[str], labels: list[int], names: list[str] | None = None) -> bytes:
    label = ClassLabel(names=names) if names else Value("int64")
    rows = Dataset.from_dict(
        {"q": texts, "label": labels, "unused": [0] * len(texts)},
        features=Features({"q": Value("string"), "label": label, "unused": Value("int64")}),
    )
    buffer = io.BytesIO()
    rows.to_parquet(buffer)
    return buffer.getvalue()


def pairs(**changes) -> Data:
    return Data(**{"source": "me/pairs", "text": "q", "label": "label"} | changes)


def fails(data: Data, kind: type[FtjobsError] = UserError) -> str:
    with pytest.raises(kind) as caught:
        read(data)
    assert type(caught.value) is kind
    return str(caught.value)


def test_current_commit_of_main_is_loaded_and_recorded(hub):
    hub.add("v1", OLD, {"train.csv": b"q,label\nold,0\nolder,1\n"})
    hub.add("main", MAIN, {"train.csv": b"q,label\nnew,0\nnewer,1\n", "test.csv": b"q,label\nnewest,1\n"})
    source = read(pairs())
    assert {name: rows.to_dict() for name, rows in source.splits.items()} == {
        "train": {"q": ["new", "newer"], "label": [0, 1]},
        "test": {"q": ["newest"], "label": [1]},
    }
    assert source.provenance == {
        "hub_id": "me/pairs",
        "revision": "main",
        "commit": MAIN,
        "config": None,
    }
    older = read(pairs(revision="v1"))
    assert older.splits["train"]["q"][:] == ["old", "older"]
    assert older.provenance["commit"] == OLD


def test_commits_do_not_share_a_cache(hub):
    hub.add("v1", OLD, {"train.csv": b"q,label\nold,0\nolder,1\n"})
    read(pairs(revision="v1"))
    hub.add("main", MAIN, {})  # nothing to load in this commit
    assert "me/pairs" in fails(pairs())


def test_class_labels_become_their_names(hub):
    hub.add("main", MAIN, {"data/train-00000-of-00001.parquet": parquet(["a", "b", "c"], [1, 0, 1], ["no", "yes"])})
    assert read(pairs()).splits["train"].to_dict() == {"q": ["a", "b", "c"], "label": ["yes", "no", "yes"]}


def test_script_is_read_from_the_parquet_conversion(hub):
    hub.add("main", MAIN, {"pairs.py": b"raise SystemExit('never run')", "README.md": b"# pairs\n"})
    hub.add(
        EXPORT_BRANCH,
        EXPORT,
        {
            "default/train/0000.parquet": parquet(["a", "b"], [0, 1], ["no", "yes"]),
            "default/train/0001.parquet": parquet(["c"], [1], ["no", "yes"]),
        },
    )
    source = read(pairs())
    assert source.splits["train"].to_dict() == {"q": ["a", "b", "c"], "label": ["no", "yes", "yes"]}
    assert source.provenance["revision"] == EXPORT_BRANCH
    assert source.provenance["commit"] == EXPORT


def test_script_at_a_pinned_revision_or_without_conversion_is_an_error(hub):
    hub.add("main", MAIN, {"pairs.py": b""})
    hub.add("v1", OLD, {"pairs.py": b""})
    pinned = fails(pairs(revision="v1"), DatasetScriptError)
    assert mentions(pinned, "revision 'v1'", "Python script", EXPORT_BRANCH)
    unexported = fails(pairs())
    assert mentions(unexported, "revision 'main'", "Python script", f"revision '{EXPORT_BRANCH}'", "no such revision")


def test_conversion_with_several_configurations_requires_one(hub):
    hub.add("main", MAIN, {"pairs.py": b""})
    files = {f"{name}/train/0000.parquet": parquet([name, "b"], [0, 1]) for name in ("easy", "hard")}
    hub.add(EXPORT_BRANCH, EXPORT, files)
    assert read(pairs(config="hard")).splits["train"]["q"][:] == ["hard", "b"]
    assert mentions(fails(pairs()), "(easy, hard)", "set data.config")
    assert "'medium'" in fails(pairs(config="medium"))


def test_partial_conversion_is_rejected(hub):
    hub.add(EXPORT_BRANCH, EXPORT, {"default/partial-train/0000.parquet": parquet(["a", "b"], [0, 1])})
    assert "first part" in fails(pairs(revision=EXPORT_BRANCH))


def test_configuration_is_selected(hub):
    card = b"---\nconfigs:\n- config_name: easy\n  data_files: e.csv\n- config_name: hard\n  data_files: h.csv\n---\n"
    hub.add("main", MAIN, {"README.md": card, "e.csv": b"q,label\neasy,0\nb,1\n", "h.csv": b"q,label\nhard,0\nb,1\n"})
    source = read(pairs(config="hard"))
    assert source.splits["train"]["q"][:] == ["hard", "b"]
    assert source.provenance["config"] == "hard"
    assert "['easy', 'hard']" in fails(pairs())
    unknown = fails(pairs(config="medium"))
    assert "'medium' not found" in unknown
    assert "set data.config" in unknown


@pytest.mark.parametrize(("name", "split"), [("dev", "validation"), ("valid", "validation"), ("test", "test")])
def test_split_names_are_normalized(hub, name, split):
    card = (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: a.csv\n  - split: {name}\n"
    )
    hub.add(
        "main",
        MAIN,
        {
            "README.md": f"{card}    path: b.csv\n---\n".encode(),
            "a.csv": b"q,label\na,0\nb,1\n",
            "b.csv": b"q,label\nc,0\n",
        },
    )
    assert {key: rows["q"][:] for key, rows in read(pairs()).splits.items()} == {"train": ["a", "b"], split: ["c"]}


def test_unknown_split_names_are_an_error_unless_single(hub):
    one_split = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: {}\n    path: a.csv\n"
    two_splits = one_split.format("train") + "  - split: unsupervised\n    path: b.csv\n"
    files = {"a.csv": b"q,label\na,0\nb,1\n", "b.csv": b"q,label\nc,0\n"}
    hub.add("v1", OLD, {"README.md": f"{one_split.format('everything')}---\n".encode(), "a.csv": files["a.csv"]})
    assert list(read(pairs(revision="v1")).splits) == ["train"]
    hub.add("main", MAIN, {"README.md": f"{two_splits}---\n".encode(), **files})
    message = fails(pairs())
    assert "train, unsupervised" in message
    assert mentions(message, "{train: ", "test: ")


def test_unlabeled_test_split_is_an_error(hub):
    hub.add(
        "main",
        MAIN,
        {
            "data/train-00000-of-00001.parquet": parquet(["a", "b"], [1, 0], ["no", "yes"]),
            "data/test-00000-of-00001.parquet": parquet(["c", "d"], [-1, -1], ["no", "yes"]),
        },
    )
    assert mentions(fails(pairs()), "me/pairs, split test: ", "'label'", "-1", "all 2 rows", "{train: ", "test: ")


def test_columns_and_values_are_checked(hub):
    hub.add("main", MAIN, {"train.csv": b"q,label\na,0\n,1\n"})
    assert mentions(fails(pairs()), "split train: ", "'q' (data.text)", "1 of 2 rows", "row 2")
    assert mentions(fails(pairs(label="lable")), "'lable' (data.label)", "mean 'label'")


def test_missing_data_set_or_revision(hub, tmp_path):
    hub.add("main", MAIN, {"train.csv": b"q,label\na,0\nb,1\n"})
    absent = fails(pairs(source="me/pears"))
    assert mentions(absent, "'me/pears'", "revision 'main'", f"{tmp_path}/me/pears", "HF_TOKEN")
    assert mentions(fails(pairs(revision="v9")), "revision 'v9'", "branch, tag")
    assert mentions(fails(pairs(source="not a hub id")), "'not a hub id'", "HF_TOKEN")


def test_gated_data_set_error_contains_page_and_token(hub):
    hub.add("main", MAIN, {"train.csv": b"q,label\na,0\nb,1\n"})
    hub.gated = True
    message = fails(pairs())
    assert mentions(message, "'me/pairs'", "revision 'main'", "https://huggingface.co/datasets/me/pairs", "HF_TOKEN")


def test_unreachable_hub_may_be_retried(hub, tmp_path, monkeypatch):
    hub.failing = True
    assert "unreachable" in fails(pairs(), FtjobsError)
    point_libraries_at("http://127.0.0.1:9", tmp_path / "cache", monkeypatch)
    assert "try again" in fails(pairs(), FtjobsError)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert "unreachable" in fails(pairs(), FtjobsError)
