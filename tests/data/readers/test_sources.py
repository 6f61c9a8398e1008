"""Labeled data from files: formats, splits, and problems with their places."""

import csv
import gzip
import hashlib
import json
import logging
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftjobs.data.readers import columns
from ftjobs.data.readers.sources import read
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Data
from tests.helpers.messages import mentions


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, content: str | bytes) -> str:
    """Write a file, text as UTF-8, compressed if the name ends in .gz, and return its name."""
    content = content.encode() if isinstance(content, str) else content
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def data(source: object, **fields: object) -> Data:
    return Data(**{"source": source, "text": "q", "label": "label"} | fields)


def rows(source: object, **fields: object) -> dict[str, list]:
    """Return the columns of the training split."""
    splits = read(data(source, **fields)).splits
    assert list(splits) == ["train"]
    return splits["train"].to_dict()


def problems(source: object, **fields: object) -> list[str]:
    with pytest.raises(UserError) as caught:
        read(data(source, **fields))
    assert all("\n" not in problem for problem in caught.value.problems)
    return caught.value.problems


def problem(source: object, **fields: object) -> str:
    (only,) = problems(source, **fields)
    return only


class TestFormats:
    def test_csv_cells_are_strings(self):
        put("a.csv", "id,q,label\n1,NA,0\n2, None ,1\n3,null,01\n4,nan,1.0\n5,1e5,True\n")
        assert rows("a.csv") == {"q": ["NA", " None ", "null", "nan", "1e5"], "label": ["0", "1", "01", "1.0", "True"]}

    def test_csv_quoting_follows_rfc_4180(self):
        put("a.csv", 'q,label\r\n"a, ""b""\r\nc",0\r\n\r\n5" pipe,1\r\n')
        assert rows("a.csv") == {"q": ['a, "b"\r\nc', '5" pipe'], "label": ["0", "1"]}

    def test_only_required_columns_are_read_in_the_order_of_the_job(self):
        put("a.csv", "label,extra,b,a,doctor\n0,x,b1,a1,7\n1,y,b2,a2,8\n")
        split = {"test_fraction": 0.5, "group_by": "doctor"}
        expected = {"a": ["a1", "a2"], "b": ["b1", "b2"], "label": ["0", "1"], "doctor": ["7", "8"]}
        assert rows("a.csv", text=["a", "b"], split=split) == expected
        assert rows("a.csv", text="a", label=None, split={"group_by": "connected"}) == {"a": ["a1", "a2"]}

    def test_tsv_and_files_without_a_header(self):
        put("a.tsv", "a,b\t0\nc\t1\n")
        assert rows("a.tsv", columns=["q", "label"]) == {"q": ["a,b", "c"], "label": ["0", "1"]}

    def test_byte_order_mark_is_ignored(self):
        put("a.csv", "\ufeffq,label\na,0\nb,1\n")
        put("a.jsonl", '\ufeff{"q": "a", "label": 0}\n{"q": "b", "label": 1}\n')
        put("a.txt", "\ufeffa\n")
        assert rows("a.csv")["q"] == ["a", "b"]
        assert rows("a.jsonl")["q"] == ["a", "b"]
        assert rows("a.txt", label=None)["q"] == ["a"]

    def test_csv_cell_longer_than_the_default_limit(self):
        put("a.csv", f"q,label\n{'x' * 1_000_000},0\nb,1\n")
        assert [len(text) for text in rows("a.csv")["q"]] == [1_000_000, 1]

    @pytest.mark.parametrize("values", [["no", "yes"], [3, -1], [True, False]])
    def test_jsonl_keeps_strings_whole_numbers_and_booleans(self, values):
        put("a.jsonl", "\n\n".join(json.dumps({"label": value, "q": "NA\n"}) for value in values))
        assert rows("a.jsonl") == {"q": ["NA\n", "NA\n"], "label": values}

    def test_parquet_types_are_normalized(self):
        table = {
            "q": pa.array(["a", "b"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "group": pa.array([1, 2], pa.int8()),
        }
        pq.write_table(pa.table(table), "a.parquet")
        split = {"group_by": "group", "test_fraction": 0.5}
        rows_read = read(data("a.parquet", split=split)).splits["train"]
        assert rows_read.to_dict() == {"q": ["a", "b"], "label": ["x", "y"], "group": [1, 2]}
        string, integer = Value("string"), Value("int64")
        assert rows_read.features == Features({"q": string, "label": string, "group": integer})

    def test_parquet_class_labels_become_names(self):
        features = Features({"q": Value("string"), "label": ClassLabel(names=["no", "yes"])})
        Dataset.from_dict({"q": ["a", "b"], "label": [1, 0]}, features=features).to_parquet("a.parquet")
        assert rows("a.parquet")["label"] == ["yes", "no"]

    def test_text_file_has_one_text_per_line(self):
        put("a.txt", ' a \r\n\n \t\nb,"c\u2028d\x85e')
        assert rows("a.txt", label=None) == {"q": [" a ", 'b,"c\u2028d\x85e']}

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
    def test_compressed_files_are_read(self, suffix):
        content = {"csv": "q\na\n", "jsonl": '{"q": "a"}', "txt": "a"}[suffix]
        assert rows(put(f"a.{suffix}.gz", content), label=None) == {"q": ["a"]}

    def test_declared_format_overrides_the_suffix(self):
        put("a.txt", "q,label\na,0\nb,1\n")
        assert rows("a.txt", format="csv")["q"] == ["a", "b"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(lambda text: text.strip())


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from([("csv", ","), ("tsv", "\t")]))
def test_csv_reader_inverts_csv_writer(pairs, kind):
    suffix, delimiter = kind
    with Path(f"a.{suffix}").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([("a", "b"), *pairs])
    columns = rows(f"a.{suffix}", text=["a", "b"], label=None)
    assert list(zip(columns["a"], columns["b"], strict=True)) == pairs


class TestSplits:
    def test_mapping_assigns_files_to_splits(self):
        put("x.csv", "q,label\na,0\nb,1\n")
        put("y.jsonl", '{"q": "c", "label": "2"}\n')
        source = {"train": "x.csv", "test": "y.jsonl", "validation": "*.jsonl"}
        splits = read(data(source)).splits
        assert {name: split["q"][:] for name, split in splits.items()} == {
            "train": ["a", "b"],
            "test": ["c"],
            "validation": ["c"],
        }

    @pytest.mark.parametrize("source", ["d", "d/*"])
    @pytest.mark.parametrize("name", ["validation.csv", "valid-0.csv", "val_a.csv", "dev.csv.gz"])
    def test_file_names_determine_splits(self, source, name):
        for file, text in {"train-1.csv": "b", "train-0.csv": "a", "test.csv": "c", name: "d"}.items():
            put(f"d/{file}", f"q\n{text}\n")
        splits = read(data(source, label=None)).splits
        assert {key: split["q"][:] for key, split in splits.items()} == {
            "train": ["a", "b"],
            "test": ["c"],
            "validation": ["d"],
        }

    def test_folder_names_determine_splits(self):
        put("d/train/test_results.csv", "q\na\n")
        put("d/test/0.csv", "q\nb\n")
        splits = read(data("d", label=None)).splits
        assert {key: split["q"][:] for key, split in splits.items()} == {"train": ["a"], "test": ["b"]}

    def test_files_without_train_are_all_training_rows(self):
        for name, text in {"test.csv": "c", "b.csv": "b", "training.csv": "d"}.items():
            put(f"d/{name}", f"q\n{text}\n")
        assert rows("d", label=None)["q"] == ["b", "c", "d"]
        assert rows("d/test.csv", label=None)["q"] == ["c"]

    def test_single_file_is_the_training_split(self):
        put("d/train.csv", "q\na\n")
        assert rows("d/train.csv", label=None)["q"] == ["a"]

    def test_other_files_next_to_splits_are_ignored_with_a_warning(self, caplog):
        put("d/train.csv", "q\na\n")
        put("d/other.csv", "not even a header")
        with caplog.at_level(logging.WARNING):
            assert rows("d", label=None)["q"] == ["a"]
        assert "other.csv" in caplog.text

    def test_provenance_contains_digests_of_files(self):
        put("d/train/a.csv", "q\na\n")
        put("d/test.csv", "q\nb\n")
        provenance = read(data("d", label=None)).provenance
        assert json.loads(json.dumps(provenance)) == {
            "files": [
                {"split": "test", "name": "test.csv", "bytes": 4, "sha256": hashlib.sha256(b"q\nb\n").hexdigest()},
                {"split": "train", "name": "train/a.csv", "bytes": 4, "sha256": hashlib.sha256(b"q\na\n").hexdigest()},
            ],
        }

    def test_mapping_requires_train(self):
        assert mentions(problem({"test": "a.csv"}), "data.source", "train: FILE")

    def test_problems_of_all_files_are_reported(self):
        put("a.csv", "q\na\n")
        put("c.csv", "")
        assert ["a.csv" in text or "c.csv" in text for text in problems({"train": "a.csv", "test": "c.csv"})] == [
            True
        ] * 2
        assert len(problems({"train": "no.csv", "test": "s3://b/c.csv"})) == 2

    def test_files_of_a_split_require_equal_types(self):
        put("d/a.jsonl", '{"q": "a", "label": 0}')
        put("d/b.jsonl", '{"q": "b", "label": "1"}')
        assert mentions(problem("d"), "d/b.jsonl: ", "'label'", "strings", "d/a.jsonl", "integers", "one type")


class TestCsvProblems:
    def test_missing_file_is_an_error(self, here):
        assert mentions(problem("a.csv"), "data.source", "'a.csv'", f"{here}/a.csv")

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_empty_file_is_an_error(self, content):
        assert mentions(problem(put("a.csv", content)), "a.csv: ", "empty", "header row")
        assert mentions(problem("a.csv", columns=["q", "label"]), "a.csv: ", "empty", "add rows")

    def test_header_without_rows_is_an_error(self):
        assert mentions(problem(put("a.csv", "q,label\n")), "a.csv: ", "header row", "add rows")

    def test_first_five_ragged_rows_are_reported(self):
        put("a.csv", "q,label\na,0\n" + 'b\n"x\ny",1,2\n' * 4)
        errors = problems("a.csv")
        assert [text.partition(":")[0] for text in errors] == [f"a.csv, line {line}" for line in (3, 4, 6, 7, 9)]
        assert mentions(errors[0], "line 3", "1 cell", "2 columns", "'b'", "quote cells")
        assert mentions(errors[1], "line 4", "3 cell", "2 columns", r"'x\ny,1,2'")

    def test_unbalanced_quotes_are_reported_at_the_start_of_the_row(self):
        assert problem(put("a.csv", 'q,label\na,0\n"b,1\nc,0\n')).startswith("a.csv, line 3: unbalanced")
        assert problem(put("a.csv", 'q,label\n"a"b,0\n')).startswith("a.csv, line 2: unbalanced")

    def test_repeated_column_name(self):
        error = problem(put("a.csv", "q,label,q\na,0,b\n"))
        assert mentions(error, "a.csv, line 1", "'q'", "more than once", "rename")
        declared = problem("a.csv", columns=["q", "label", "label"])
        assert mentions(declared, "data.columns", "'label'", "more than once", "rename")

    def test_unnamed_columns_are_not_repetitions(self):
        assert rows(put("a.csv", ",q,label,\n1,a,0,\n2,b,1,\n"))["q"] == ["a", "b"]

    def test_missing_column_suggests_existing_ones(self):
        put("a.csv", "question,lable\na,0\n")
        text, label = problems("a.csv")
        assert mentions(text, "a.csv: ", "'q' (data.text)", "'question', 'lable'", "set data.text")
        assert mentions(label, "a.csv: ", "'label' (data.label)", "'question', 'lable'", "mean 'lable'")
        grouped = problems("a.csv", text="question", label=None, split={"group_by": "doctor"})
        assert "'doctor' (data.split.group_by)" in grouped[0]

    @pytest.mark.parametrize(
        ("name", "header", "parts"),
        [
            ("a.csv", '"q";"label"', ("semicolons", ".csv", "commas", "save it with commas")),
            ("a.csv", "id|q|label", ("vertical bars", ".csv", "commas", "save it with commas")),
            ("a.csv.gz", "q\tlabel", ("tabs", ".csv", "commas", "rename it to .tsv")),
            ("a.tsv", "q,label", ("commas", ".tsv", "tabs", "rename it to .csv")),
        ],
    )
    def test_unexpected_delimiter_is_named(self, name, header, parts):
        assert mentions(problem(put(name, f"{header}\nx\n")), f"{name}, line 1: ", *parts)

    def test_header_with_a_second_delimiter(self):
        put("a.csv", "q,label,a;q;label\nx,no,1\ny,yes,1\n")
        assert rows("a.csv") == {"q": ["x", "y"], "label": ["no", "yes"]}

    def test_header_row_despite_declared_columns(self):
        put("a.csv", "q,label\na,0\n")
        assert mentions(problem("a.csv", columns=["q", "label"]), "line 1: ", "header row", "remove data.columns")

    def test_bytes_that_are_not_utf8(self):
        put("a.csv", b"q,label\na,0\ncaf\xe9,1\nna\xefve,1\n")
        for error, line, byte in zip(problems("a.csv"), (3, 4), ("e9", "ef"), strict=True):
            assert mentions(error, f"a.csv, line {line}: byte 0x{byte}", "UTF-8", "iconv")
        assert mentions(problem(put("b.txt.gz", b"a\n\xff\n"), label=None), "line 2: ", "0xff")

    def test_utf16_and_gzip_are_recognized(self):
        assert mentions(problem(put("a.csv", "q\na".encode("utf-16"))), "line 1: ", "0xff", "UTF-16")
        assert mentions(problem(put("a.csv", "q\na".encode("utf-16-le"))), "line 1: ", "NUL byte")
        assert mentions(problem(put("a.csv", gzip.compress(b"q,label\n"))), "gzip", "add .gz")

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
    def test_nul_byte_is_an_error(self, name):
        error = problem(put(name, '{"q": "a"}\nb\0\n'), text='{"q": "a"}', label=None)
        assert mentions(error, f"{name}, line 2: ", "NUL byte")

    def test_empty_texts_and_labels_are_counted(self):
        put("a.csv", 'q,label\n"a\nb",0\n ,1\nc,\n"",1\n')
        text, label = problems("a.csv")
        assert mentions(text, "a.csv: ", "'q' (data.text)", "2 of 4 rows", "line 4", "fill in")
        assert mentions(label, "a.csv: ", "'label' (data.label)", "1 of 4 rows", "line 5", "fill in")

    def test_single_class_is_an_error(self):
        put("a.csv", "q,label\na,0\nb,0\n")
        assert mentions(problem("a.csv"), "data.label", "'label'", "'0'", "all 2", "'a.csv'", "2 classes")
        put("t.csv", "q,label\na,1\n")
        assert "2 classes" in problem({"train": "a.csv", "test": "t.csv"})


class TestJsonlProblems:
    def test_lines_other_than_json_objects(self):
        put("a.jsonl", '{"q": "a", "label": 0}\n{"q": \n[1, 2]\n\n"q"\n{"q": NaN}x\nnull\n{}}\n')
        errors = problems("a.jsonl")
        assert [text.partition(": ")[0] for text in errors] == [f"a.jsonl, line {line}" for line in (2, 3, 5, 6, 7)]
        assert mentions(errors[0], "is not JSON", "Expecting value")
        assert mentions(errors[1], "not a JSON object", r"'[1, 2]\n'", "per line")

    @pytest.mark.parametrize("content", ['[{"q": "a"}]', '[\n  {\n    "q": "a"\n  }\n]\n'])
    def test_json_array_is_an_error(self, content):
        assert mentions(problem(put("a.json", content)), "a.json, line 1", "per line", "jq --compact-output")

    @pytest.mark.parametrize("line", ["[" * 100_000, '{"q": ' + "9" * 5000 + "}"])
    def test_json_that_python_rejects(self, line):
        assert problem(put("a.jsonl", line)).startswith("a.jsonl, line 1: is not JSON (")

    def test_file_without_objects_is_an_error(self):
        assert mentions(problem(put("a.jsonl", "\n")), "a.jsonl: ", "empty", "per line")

    def test_missing_keys_are_listed(self):
        put("a.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n')
        assert mentions(problem("a.jsonl"), "a.jsonl: ", "'q' (data.text)", "'text', 'label'")
        assert mentions(problem("a.jsonl", text="text"), "'label' (data.label)", "1 of 2 rows", "line 1")

    @pytest.mark.parametrize("value", ["null", '""', '" "'])
    def test_missing_texts_are_counted(self, value):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n\n{{"q": {value}, "label": 1}}\n')
        assert mentions(problem("a.jsonl"), "'q' (data.text)", "1 of 2 rows", "line 3")

    def test_all_texts_missing(self):
        put("a.jsonl", '{"q": null, "label": 0}\n{"q": null, "label": 1}\n')
        assert mentions(problem("a.jsonl"), "2 of 2 rows", "line 1")

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("3", "3, a whole number"),
            ("0.5", "0.5, a floating-point number"),
            ('["a"]', "['a'], a list"),
            ('{"en": "a"}', "{'en': 'a'}, an object"),
            ("true", "True, a boolean"),
            (r'"\ud800"', r"'\ud800', half a surrogate pair"),
        ],
    )
    def test_text_of_another_json_type(self, value, kind):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n{{"q": {value}, "label": 1}}\n')
        assert mentions(problem("a.jsonl"), "a.jsonl, line 2: ", f"'q' is {kind}", "data.text", "a string")

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("1.0", "1.0, a floating-point number"),
            ("[1]", "[1], a list"),
            (f"{2**63}", "a number of more than 64 bits"),
        ],
    )
    def test_label_of_another_json_type(self, value, kind):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n{{"q": "b", "label": {value}}}\n')
        error = problem("a.jsonl")
        assert mentions(
            error, "a.jsonl, line 2: ", "'label'", kind, "data.label", "a string", "a whole number", "a boolean"
        )

    def test_labels_of_several_json_types(self):
        put("a.jsonl", '{"q": "a", "label": 0}\n{"q": "b", "label": "1"}\n{"q": "c", "label": true}\n')
        types = ("a whole number (0 in line 1)", "a string ('1' in line 2)", "a boolean (True in line 3)")
        assert mentions(problem("a.jsonl"), "a.jsonl: column 'label'", *types, "one type", "data.label")


class TestOtherProblems:
    @pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
    def test_empty_text_file(self, name):
        assert mentions(problem(put(name, " \n"), label=None), f"{name}: ", "empty", "per line")

    def test_text_file_with_several_columns(self):
        error = problem(put("a.txt", "a\n"), text=["q", "r"])
        assert mentions(error, "a.txt: ", "'q' (data.text)", "'r' (data.text)", "'label' (data.label)", "use csv")

    def test_invalid_or_truncated_gzip(self):
        Path("a.csv.gz").write_bytes(b"q,label\na,0\n")
        assert mentions(problem("a.csv.gz"), "a.csv.gz: ", "gzip", "Not a gzipped")
        compressed = gzip.compress(b"q,label\n" + bytes(range(65, 91)) * 100)
        Path("a.csv.gz").write_bytes(compressed[:-12])
        assert mentions(problem("a.csv.gz"), "a.csv.gz: ", "gzip")
        Path("a.csv.gz").write_bytes(compressed[:12] + b"\xff\xff\xff" + compressed[15:])
        assert "compress it again" in problem("a.csv.gz")

    def test_invalid_or_damaged_parquet(self):
        assert mentions(problem(put("a.parquet", "q,label\n")), "a.parquet: ", "not a parquet", "write it again")
        put("a.parquet.gz", "PAR1")
        assert mentions(problem("a.parquet.gz"), "a.parquet.gz: ", "not a parquet")
        pq.write_table(pa.table({"q": ["a" * 1000, "b"], "label": [0, 1]}), "a.parquet", compression="none")
        content = Path("a.parquet").read_bytes()
        Path("a.parquet").write_bytes(content[:10] + b"\xff" * 30 + content[40:])
        assert "damaged" in problem("a.parquet")

    def test_parquet_without_rows_or_columns(self):
        pq.write_table(pa.table({"q": pa.array([], pa.string()), "label": pa.array([], pa.int64())}), "a.parquet")
        assert mentions(problem("a.parquet"), "a.parquet: ", "no rows", "add rows")
        assert mentions(problem("a.parquet", text="r"), "'r' (data.text)", "'q', 'label'")

    def test_parquet_columns_of_other_types(self):
        pq.write_table(pa.table({"q": [1, 2], "label": [0.0, 1.0], "tags": [["a"], ["b"]]}), "a.parquet")
        text, label = problems("a.parquet")
        assert mentions(text, "a.parquet: ", "'q'", "integers", "data.text", "strings", "convert")
        assert mentions(label, "a.parquet: ", "'label'", "double", "data.label", "whole numbers", "convert")
        assert mentions(problems("a.parquet", label="tags")[1], "'tags'", "list<")

    def test_parquet_with_missing_values(self):
        pq.write_table(pa.table({"q": ["a", None, ""], "label": [0, 1, None]}), "a.parquet")
        text, label = problems("a.parquet")
        assert mentions(text, "a.parquet: ", "'q' (data.text)", "2 of 3 rows", "row 2")
        assert mentions(label, "a.parquet: ", "'label' (data.label)", "1 of 3 rows", "row 3")

    def test_unknown_file_format(self):
        put("d/a.xyz", "q\n")
        assert mentions(problem("./d/a.xyz"), "d/a.xyz: ", "set data.format")

    def test_urls_other_than_s3_are_rejected(self):
        source = "https://h/a.csv"
        assert mentions(problem(source), f"data.source: '{source}'", "s3://", "curl -O")
        assert problem({"train": source}).startswith("data.source.train:")

    def test_file_system_error_may_be_retried(self, monkeypatch):
        put("a.csv", "q,label\n")

        def fail(*args, **kwargs):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("builtins.open", fail)
        with pytest.raises(FtjobsError, match=r"a\.csv: reading failed") as caught:
            read(data("a.csv"))
        assert caught.value.exit_code == 1


class TestManyRows:
    """Files of several batches, here of three rows."""

    @pytest.fixture(autouse=True)
    def three_rows_per_batch(self, monkeypatch):
        monkeypatch.setattr(columns, "_BATCH_ROWS", 3)

    @staticmethod
    def write(kind: str, texts: list, labels: list) -> str:
        match kind:
            case "csv":
                with Path("a.csv").open("w", newline="") as file:
                    csv.writer(file).writerows([("q", "label"), *zip(texts, labels, strict=True)])
            case "jsonl":
                records = [{"q": text, "label": label} for text, label in zip(texts, labels, strict=True)]
                put("a.jsonl", "\n".join(map(json.dumps, records)))
            case "parquet":
                pq.write_table(pa.table({"q": texts, "label": labels}), "a.parquet", row_group_size=5)
        return f"a.{kind}"

    @pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
    @pytest.mark.parametrize("count", [2, 3, 6, 10])
    def test_all_rows_are_read_in_order(self, kind, count):
        texts, labels = [f"text {row}" for row in range(count)], [str(row % 2) for row in range(count)]
        assert rows(self.write(kind, texts, labels)) == {"q": texts, "label": labels}

    def test_all_lines_are_read_in_order(self):
        put("a.txt", "\n\n".join(f"text {row}" for row in range(10)))
        assert rows("a.txt", label=None) == {"q": [f"text {row}" for row in range(10)]}

    @pytest.mark.parametrize(("kind", "place"), [("csv", "line 7"), ("jsonl", "line 6"), ("parquet", "row 6")])
    def test_missing_values_are_counted_over_all_batches(self, kind, place):
        texts = ["a"] * 5 + [" ", "b", "c", "", "d"]
        labels = ["0", "1"] * 4 + ["1", ""]
        second = {"line 7": "line 11", "line 6": "line 10", "row 6": "row 10"}[place]
        text, label = problems(self.write(kind, texts, labels))
        assert mentions(text, f"a.{kind}: ", "'q' (data.text)", "2 of 10 rows", f"first in {place};")
        assert mentions(label, f"a.{kind}: ", "'label' (data.label)", "1 of 10 rows", f"first in {second};")

    def test_types_that_change_in_a_later_batch(self):
        self.write("jsonl", ["a"] * 10, [0] * 9 + ["1"])
        assert mentions(problem("a.jsonl"), "whole number (0", "line 1", "string ('1'", "line 10)")
        self.write("jsonl", ["a"] * 4 + [5] + ["b"] * 5, [0, 1] * 5)
        assert mentions(problem("a.jsonl"), "line 5: ", "'q' is 5", "whole number")

    def test_syntax_problems_of_later_batches_are_reported_alone(self):
        put("a.csv", "q,label\n" + "a,0\nb,1\n" * 4 + ",\nx\nb,1,2\n")
        assert [text.partition(":")[0] for text in problems("a.csv")] == ["a.csv, line 11", "a.csv, line 12"]
        put("b.csv", "q,label\n" + "a,0\n" * 7 + '"b')
        assert problem("b.csv").startswith("b.csv, line 9: unbalanced")

    def test_invalid_files_are_not_compared_with_others(self):
        put("d/a.jsonl", "\n".join(json.dumps({"q": "a", "label": label}) for label in [0] * 7 + [None]))
        put("d/b.jsonl", "\n".join(json.dumps({"q": "b", "label": "1"}) for _ in range(7)))
        put("d/c.jsonl", "\n".join(json.dumps({"q": text, "label": 2}) for text in ["c"] * 7 + [""]))
        errors = problems("d")
        assert [text.partition(" is ")[0] for text in errors] == [
            "d/a.jsonl: column 'label' (data.label)",
            "d/c.jsonl: column 'q' (data.text)",
        ]
        put("d/a.jsonl", '{"q": "a", "label": 0}')
        assert mentions(problems("d")[0], "d/b.jsonl: column 'label'", "strings", "d/a.jsonl", "integers")

    def test_temporary_folder_is_empty_after_reading(self, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        self.write("csv", ["a", "b", "c", "d"], ["0", "1", "0", "1"])
        source = read(data("a.csv"))
        assert list((tmp_path / "temporary").iterdir()) == []
        assert source.splits["train"]["q"][:] == ["a", "b", "c", "d"]
        put("b.csv", "q,label\n" + "a,0\nb,1\n" * 4 + ",\n")
        problems("b.csv")
        assert list((tmp_path / "temporary").iterdir()) == []
