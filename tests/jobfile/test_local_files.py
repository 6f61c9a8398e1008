import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from ftjobs.errors import UserError
from ftjobs.jobfile.local_files import SUFFIXES, digest, expand, format_of, is_local


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("x")


def refused(source: str) -> str:
    with pytest.raises(UserError) as caught:
        expand(source)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("source", ["/a", "./a", "../a", "~/a", "a/*", "a/b?", "a/[bc]", "pairs.csv", "me/PAIRS.CSV"])
def test_written_as_a_path(source):
    assert is_local(source)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_known_suffix_is_a_path_also_compressed(suffix):
    assert is_local(f"me/pairs{suffix}")
    assert is_local(f"me/pairs{suffix}.gz")


@pytest.mark.parametrize("source", ["me/pairs", "squad", "me/pairs-v1.0", "s3://bucket/a.csv", "https://host/a.csv"])
def test_hub_ids_and_urls_are_not_paths(source):
    assert not is_local(source)


def test_what_exists_is_a_path():
    assert not is_local("me/pairs")
    put("me/pairs/train.csv")
    assert is_local("me/pairs")


@pytest.mark.parametrize("source", ["x" * 5000, "a\0b"])
def test_what_no_file_can_be_called_is_no_path(source):
    assert not is_local(source)


def test_a_file(here):
    put("a.csv")
    assert expand("a.csv") == [Path("a.csv")]
    assert expand(str(here / "a.csv")) == [here / "a.csv"]


def test_home(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    put("a.csv")
    assert expand("~/a.csv") == [here / "a.csv"]
    assert "'~nobody-here/a.csv'" in refused("~nobody-here/a.csv")


def test_a_folder_gives_its_data_files_sorted_and_nothing_hidden():
    put("d/b.csv", "d/a/z.jsonl.gz", "d/B.txt", "d/README.md", "d/.hidden.csv", "d/..data/c.csv", "d/a.csv.bak")
    assert [path.as_posix() for path in expand("d")] == ["d/B.txt", "d/a/z.jsonl.gz", "d/b.csv"]


def test_a_mounted_config_map_gives_each_file_once():
    put("mount/..2024/train.csv")
    Path("mount/..data").symlink_to("..2024")
    Path("mount/train.csv").symlink_to("..data/train.csv")
    assert expand("mount") == [Path("mount/train.csv")]


def test_a_glob_is_sorted_and_has_files_only():
    put("d/b.csv", "d/a.csv", "d/c.txt", "d/e.csv/f.csv", "d/.g.csv")
    assert expand("d/*.csv") == [Path("d/a.csv"), Path("d/b.csv")]
    assert expand("d/**/*.csv") == [Path("d/a.csv"), Path("d/b.csv"), Path("d/e.csv/f.csv")]


def test_a_name_with_glob_characters_is_the_file_of_that_name():
    put("a[1].csv", "a1.csv")
    assert expand("a[1].csv") == [Path("a[1].csv")]


def test_nothing_there_says_where_it_looked(here):
    assert f"'me/a.csv' (looked at {here}/me/a.csv); check the path" in refused("me/a.csv")
    assert f"no file matches 'me/*.csv' (looked at {here}/me/*.csv); check the pattern" in refused("me/*.csv")
    put("d/notes.md")
    assert f"'d' has no data files (looked at {here}/d); their names must end in one of .csv" in refused("d")


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
def test_formats_by_name(name, expected):
    assert format_of(Path(name), None) == expected


def test_a_declared_format_wins():
    assert format_of(Path("a.txt"), "csv") == "csv"
    assert format_of(Path("a"), "parquet") == "parquet"


@pytest.mark.parametrize("name", ["a", "a.xlsx", "a.gz", ".csv"])
def test_a_name_that_tells_nothing(name):
    with pytest.raises(UserError, match=rf"^{name}: .*set data.format to one of csv, tsv, jsonl, parquet, text"):
        format_of(Path(name), None)


def test_digest():
    Path("a.csv").write_bytes(b"abc" * 100_000)
    assert digest(Path("a.csv")) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_importing_is_light():
    code = (
        "import sys, ftjobs.jobfile.local_files; "
        "print(sorted({'numpy', 'pandas', 'pyarrow', 'datasets', 'huggingface_hub', 'torch'} & sys.modules.keys()))"
    )
    root = Path(__file__).parents[2]
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert out.stdout == "[]\n"
