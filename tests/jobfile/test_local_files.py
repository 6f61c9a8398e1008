"""Expansion of sources to local files, and their formats."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from ftjobs.errors import UserError
from ftjobs.jobfile.local_files import SUFFIXES, digest, expand, format_of, is_local
from tests.helpers.messages import mentions


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")


def expand_error(source: str) -> str:
    with pytest.raises(UserError) as caught:
        expand(source)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("source", ["/a", "./a", "../a", "~/a", "a/*", "a/b?", "a/[bc]", "pairs.csv", "me/PAIRS.CSV"])
def test_paths_are_local(source):
    assert is_local(source)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_with_a_known_suffix_are_local(suffix):
    assert is_local(f"me/pairs{suffix}")
    assert is_local(f"me/pairs{suffix}.gz")


@pytest.mark.parametrize("source", ["me/pairs", "squad", "me/pairs-v1.0", "s3://bucket/a.csv", "https://host/a.csv"])
def test_hub_ids_and_urls_are_not_local(source):
    assert not is_local(source)


def test_existing_paths_are_local():
    assert not is_local("me/pairs")
    put("me/pairs/train.csv")
    assert is_local("me/pairs")


@pytest.mark.parametrize("source", ["x" * 5000, "a\0b"])
def test_invalid_file_names_are_not_local(source):
    assert not is_local(source)


def test_expand_returns_an_existing_file(here):
    put("a.csv")
    assert expand("a.csv") == [Path("a.csv")]
    assert expand(str(here / "a.csv")) == [here / "a.csv"]


def test_home_is_expanded(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    put("a.csv")
    assert expand("~/a.csv") == [here / "a.csv"]
    assert "'~nobody-here/a.csv'" in expand_error("~nobody-here/a.csv")


def test_expand_folder_returns_sorted_data_files_without_hidden_ones():
    put("d/b.csv", "d/a/z.jsonl.gz", "d/B.txt", "d/README.md", "d/.hidden.csv", "d/..data/c.csv", "d/a.csv.bak")
    assert [path.as_posix() for path in expand("d")] == ["d/B.txt", "d/a/z.jsonl.gz", "d/b.csv"]


def test_expand_config_map_volume_returns_each_file_once():
    put("mount/..2024/train.csv")
    Path("mount/..data").symlink_to("..2024")
    Path("mount/train.csv").symlink_to("..data/train.csv")
    assert expand("mount") == [Path("mount/train.csv")]


def test_expand_glob_returns_sorted_files():
    put("d/b.csv", "d/a.csv", "d/c.txt", "d/e.csv/f.csv", "d/.g.csv")
    assert expand("d/*.csv") == [Path("d/a.csv"), Path("d/b.csv")]
    assert expand("d/**/*.csv") == [Path("d/a.csv"), Path("d/b.csv"), Path("d/e.csv/f.csv")]


def test_expand_file_with_glob_characters_in_its_name():
    put("a[1].csv", "a1.csv")
    assert expand("a[1].csv") == [Path("a[1].csv")]


def test_expand_error_contains_the_absolute_path(here):
    assert mentions(expand_error("me/a.csv"), "'me/a.csv'", f"{here}/me/a.csv", "check the path")
    assert mentions(expand_error("me/*.csv"), "'me/*.csv'", f"{here}/me/*.csv", "check the pattern")
    put("d/notes.md")
    assert mentions(expand_error("d"), "'d'", f"{here}/d", "one of .csv")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.csv", "csv"),
        ("a.TSV", "tsv"),
        ("a.b.jsonl", "jsonl"),
        ("a.ndjson.gz", "jsonl"),
        ("a.json", "jsonl"),
        ("a.parquet", "parquet"),
        ("a.txt.gz", "text"),
        ("a.text", "text"),
    ],
)
def test_format_by_suffix(name, expected):
    assert format_of(Path(name), None) == expected


def test_declared_format_overrides_the_suffix():
    assert format_of(Path("a.txt"), "csv") == "csv"
    assert format_of(Path("a"), "parquet") == "parquet"


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.gz", ".csv"])
def test_unknown_suffix_is_an_error(name):
    with pytest.raises(UserError, match=rf"^{name}: .*set data.format to one of csv, tsv, jsonl, parquet, text"):
        format_of(Path(name), None)


def test_digest_is_the_sha256_of_the_content():
    Path("a.csv").write_bytes(b"abc" * 100_000)
    assert digest(Path("a.csv")) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_import_loads_no_heavy_packages():
    code = (
        "import sys, ftjobs.jobfile.local_files; "
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'datasets', 'huggingface_hub', 'torch'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout == "[]\n"
