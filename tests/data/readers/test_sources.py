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


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(name: str, content: str | bytes) -> str:
    """Write a file; text as UTF-8, compressed if the name ends in .gz."""
    content = content.encode() if isinstance(content, str) else content
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return name


def data(source: object, **fields: object) -> Data:
    return Data(**{"source": source, "text": "q", "label": "label"} | fields)


def rows(source: object, **fields: object) -> dict[str, list]:
    """Columns of the training split."""
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
    def test_csv_keeps_every_cell_as_the_text_it_is(self):
        put("a.csv", "id,q,label\n1,NA,0\n2, None ,1\n3,null,01\n4,nan,1.0\n5,1e5,True\n")
        assert rows("a.csv") == {"q": ["NA", " None ", "null", "nan", "1e5"], "label": ["0", "1", "01", "1.0", "True"]}

    def test_csv_quoting_is_that_of_rfc_4180(self):
        put("a.csv", 'q,label\r\n"a, ""b""\r\nc",0\r\n\r\n5" pipe,1\r\n')
        assert rows("a.csv") == {"q": ['a, "b"\r\nc', '5" pipe'], "label": ["0", "1"]}

    def test_only_needed_columns_are_kept_in_the_order_of_the_job(self):
        put("a.csv", "label,extra,b,a,doctor\n0,x,b1,a1,7\n1,y,b2,a2,8\n")
        split = {"test_fraction": 0.5, "group_by": "doctor"}
        expected = {"a": ["a1", "a2"], "b": ["b1", "b2"], "label": ["0", "1"], "doctor": ["7", "8"]}
        assert rows("a.csv", text=["a", "b"], split=split) == expected
        assert rows("a.csv", text="a", label=None, split={"group_by": "connected"}) == {"a": ["a1", "a2"]}

    def test_tsv_and_files_without_a_header(self):
        put("a.tsv", "a,b\t0\nc\t1\n")
        assert rows("a.tsv", columns=["q", "label"]) == {"q": ["a,b", "c"], "label": ["0", "1"]}

    def test_a_byte_order_mark_is_no_part_of_the_first_name(self):
        put("a.csv", "\ufeffq,label\na,0\nb,1\n")
        put("a.jsonl", '\ufeff{"q": "a", "label": 0}\n{"q": "b", "label": 1}\n')
        put("a.txt", "\ufeffa\n")
        assert rows("a.csv")["q"] == ["a", "b"]
        assert rows("a.jsonl")["q"] == ["a", "b"]
        assert rows("a.txt", label=None)["q"] == ["a"]

    def test_a_field_longer_than_the_csv_module_s_limit(self):
        put("a.csv", f"q,label\n{'x' * 1_000_000},0\nb,1\n")
        assert [len(text) for text in rows("a.csv")["q"]] == [1_000_000, 1]

    @pytest.mark.parametrize("values", [["no", "yes"], [3, -1], [True, False]])
    def test_jsonl_keeps_strings_whole_numbers_and_booleans(self, values):
        put("a.jsonl", "\n\n".join(json.dumps({"label": value, "q": "NA\n"}) for value in values))
        assert rows("a.jsonl") == {"q": ["NA\n", "NA\n"], "label": values}

    def test_parquet_with_other_kinds_of_strings_and_numbers(self):
        table = {
            "q": pa.array(["a", "b"], pa.large_string()),
            "label": pa.array(["x", "y"]).dictionary_encode(),
            "group": pa.array([1, 2], pa.int8()),
        }
        pq.write_table(pa.table(table), "a.parquet")
        split = {"group_by": "group", "test_fraction": 0.5}
        found = read(data("a.parquet", split=split)).splits["train"]
        assert found.to_dict() == {"q": ["a", "b"], "label": ["x", "y"], "group": [1, 2]}
        string, integer = Value("string"), Value("int64")
        assert found.features == Features({"q": string, "label": string, "group": integer})

    def test_parquet_with_class_labels_gives_their_names(self):
        features = Features({"q": Value("string"), "label": ClassLabel(names=["no", "yes"])})
        Dataset.from_dict({"q": ["a", "b"], "label": [1, 0]}, features=features).to_parquet("a.parquet")
        assert rows("a.parquet")["label"] == ["yes", "no"]

    def test_text_is_one_text_a_line_without_blank_ones(self):
        put("a.txt", ' a \r\n\n \t\nb,"c\u2028d\x85e')
        assert rows("a.txt", label=None) == {"q": [" a ", 'b,"c\u2028d\x85e']}

    @pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
    def test_compressed(self, suffix):
        content = {"csv": "q\na\n", "jsonl": '{"q": "a"}', "txt": "a"}[suffix]
        assert rows(put(f"a.{suffix}.gz", content), label=None) == {"q": ["a"]}

    def test_the_declared_format_wins_over_the_name(self):
        put("a.txt", "q,label\na,0\nb,1\n")
        assert rows("a.txt", format="csv")["q"] == ["a", "b"]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0")).filter(lambda text: text.strip())


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=8), st.sampled_from([("csv", ","), ("tsv", "\t")]))
def test_what_a_csv_writer_writes_is_what_is_read(pairs, kind):
    suffix, delimiter = kind
    with Path(f"a.{suffix}").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows([("a", "b"), *pairs])
    found = rows(f"a.{suffix}", text=["a", "b"], label=None)
    assert list(zip(found["a"], found["b"], strict=True)) == pairs


class TestSplits:
    def test_a_mapping(self):
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
    def test_file_names_that_say_their_split(self, source, name):
        for file, text in {"train-1.csv": "b", "train-0.csv": "a", "test.csv": "c", name: "d"}.items():
            put(f"d/{file}", f"q\n{text}\n")
        splits = read(data(source, label=None)).splits
        assert {key: split["q"][:] for key, split in splits.items()} == {
            "train": ["a", "b"],
            "test": ["c"],
            "validation": ["d"],
        }

    def test_folders_that_say_their_split(self):
        put("d/train/test_results.csv", "q\na\n")
        put("d/test/0.csv", "q\nb\n")
        splits = read(data("d", label=None)).splits
        assert {key: split["q"][:] for key, split in splits.items()} == {"train": ["a"], "test": ["b"]}

    def test_without_a_train_file_all_are_training_rows_in_sorted_order(self):
        for name, text in {"test.csv": "c", "b.csv": "b", "training.csv": "d"}.items():
            put(f"d/{name}", f"q\n{text}\n")
        assert rows("d", label=None)["q"] == ["b", "c", "d"]
        assert rows("d/test.csv", label=None)["q"] == ["c"]

    def test_a_single_train_file_is_not_a_given_split(self):
        put("d/train.csv", "q\na\n")
        assert rows("d/train.csv", label=None)["q"] == ["a"]

    def test_files_beside_the_splits_are_not_read_and_named(self, caplog):
        put("d/train.csv", "q\na\n")
        put("d/other.csv", "not even a header")
        with caplog.at_level(logging.WARNING):
            assert rows("d", label=None)["q"] == ["a"]
        assert "other.csv" in caplog.text

    def test_provenance_is_json_and_says_which_bytes_were_read(self):
        put("d/train/a.csv", "q\na\n")
        put("d/test.csv", "q\nb\n")
        provenance = read(data("d", label=None)).provenance
        assert json.loads(json.dumps(provenance)) == {
            "files": [
                {"split": "test", "name": "test.csv", "bytes": 4, "sha256": hashlib.sha256(b"q\nb\n").hexdigest()},
                {"split": "train", "name": "train/a.csv", "bytes": 4, "sha256": hashlib.sha256(b"q\na\n").hexdigest()},
            ],
        }

    def test_a_mapping_without_train(self):
        assert "no train; add train: FILE" in problem({"test": "a.csv"})

    def test_problems_of_all_files_come_at_once(self):
        put("a.csv", "q\na\n")
        put("c.csv", "")
        assert ["a.csv" in text or "c.csv" in text for text in problems({"train": "a.csv", "test": "c.csv"})] == [
            True
        ] * 2
        assert len(problems({"train": "no.csv", "test": "s3://b/c.csv"})) == 2

    def test_files_of_a_split_must_agree(self):
        put("d/a.jsonl", '{"q": "a", "label": 0}')
        put("d/b.jsonl", '{"q": "b", "label": "1"}')
        expected = "d/b.jsonl: column 'label' holds strings, but in d/a.jsonl integers; write it alike in all files"
        assert problem("d") == expected


class TestCsvProblems:
    def test_a_missing_file(self, here):
        assert f"no file or folder 'a.csv' (looked at {here}/a.csv)" in problem("a.csv")

    @pytest.mark.parametrize("content", ["", "\n\n"])
    def test_an_empty_file(self, content):
        assert problem(put("a.csv", content)).startswith("a.csv: is empty; it needs a header row")
        assert problem("a.csv", columns=["q", "label"]) == "a.csv: is empty; add rows of data"

    def test_a_header_only(self):
        assert problem(put("a.csv", "q,label\n")) == "a.csv: has a header row only; add rows of data"

    def test_ragged_rows_up_to_five(self):
        put("a.csv", "q,label\na,0\n" + 'b\n"x\ny",1,2\n' * 4)
        found = problems("a.csv")
        assert [text.partition(":")[0] for text in found] == [f"a.csv, line {line}" for line in (3, 4, 6, 7, 9)]
        assert "line 3: 1 cell(s), but there are 2 columns: 'b'; quote cells" in found[0]
        assert r"line 4: 3 cell(s), but there are 2 columns: 'x\ny,1,2'" in found[1]

    def test_quotes_that_do_not_match_name_the_line_where_the_row_starts(self):
        assert problem(put("a.csv", 'q,label\na,0\n"b,1\nc,0\n')).startswith("a.csv, line 3: the quotes of the row")
        assert "line 2: the quotes" in problem(put("a.csv", 'q,label\n"a"b,0\n'))

    def test_a_repeated_column_name(self):
        found = problem(put("a.csv", "q,label,q\na,0,b\n"))
        assert found == "a.csv, line 1: the header has 'q' more than once; rename one"
        declared = problem("a.csv", columns=["q", "label", "label"])
        assert declared == "data.columns has 'label' more than once; rename one"

    def test_columns_without_a_name_are_not_repeated_names(self):
        assert rows(put("a.csv", ",q,label,\n1,a,0,\n2,b,1,\n"))["q"] == ["a", "b"]

    def test_missing_columns_list_what_there_is_and_what_is_near(self):
        put("a.csv", "question,lable\na,0\n")
        assert problems("a.csv") == [
            "a.csv: there is no column 'q' (data.text); columns: 'question', 'lable'; set data.text to one of them",
            "a.csv: there is no column 'label' (data.label); columns: 'question', 'lable'; did you mean 'lable'?",
        ]
        grouped = problems("a.csv", text="question", label=None, split={"group_by": "doctor"})
        assert "no column 'doctor' (data.split.group_by)" in grouped[0]

    @pytest.mark.parametrize(
        ("name", "header", "said"),
        [
            ("a.csv", '"q";"label"', "by semicolons, and in a .csv file by commas; save it with commas"),
            ("a.csv", "id|q|label", "by vertical bars, and in a .csv file by commas; save it with commas"),
            ("a.csv.gz", "q\tlabel", "by tabs, and in a .csv file by commas; name it .tsv"),
            ("a.tsv", "q,label", "by commas, and in a .tsv file by tabs; name it .csv"),
        ],
    )
    def test_another_delimiter(self, name, header, said):
        assert problem(put(name, f"{header}\nx\n")) == f"{name}, line 1: columns are kept apart {said}"

    def test_a_header_that_holds_another_delimiter_too(self):
        put("a.csv", "q,label,a;q;label\nx,no,1\ny,yes,1\n")
        assert rows("a.csv") == {"q": ["x", "y"], "label": ["no", "yes"]}

    def test_a_header_row_where_none_is_declared(self):
        put("a.csv", "q,label\na,0\n")
        assert "line 1: is a header row; remove data.columns" in problem("a.csv", columns=["q", "label"])

    def test_bytes_that_are_not_utf_8(self):
        put("a.csv", b"q,label\na,0\ncaf\xe9,1\nna\xefve,1\n")
        assert problems("a.csv") == [
            f"a.csv, line {line}: byte 0x{byte} is not UTF-8; save the file as UTF-8 (iconv -f ENCODING -t UTF-8)"
            for line, byte in [(3, "e9"), (4, "ef")]
        ]
        assert "line 2: byte 0xff" in problem(put("b.txt.gz", b"a\n\xff\n"), label=None)

    def test_utf_16_and_gzip_are_recognised(self):
        assert "line 1: byte 0xff is not UTF-8: the file is UTF-16" in problem(put("a.csv", "q\na".encode("utf-16")))
        assert "line 1: has a NUL byte" in problem(put("a.csv", "q\na".encode("utf-16-le")))
        assert "the file is gzip; end its name in .gz" in problem(put("a.csv", gzip.compress(b"q,label\n")))

    @pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.txt"])
    def test_a_nul_byte(self, name):
        assert f"{name}, line 2: has a NUL byte" in problem(
            put(name, '{"q": "a"}\nb\0\n'), text='{"q": "a"}', label=None
        )

    def test_empty_texts_and_labels_are_counted(self):
        put("a.csv", 'q,label\n"a\nb",0\n ,1\nc,\n"",1\n')
        assert problems("a.csv") == [
            "a.csv: column 'q' (data.text) is empty or missing in 2 of 4 rows, first in line 4; "
            "fill it in or remove these rows",
            "a.csv: column 'label' (data.label) is empty or missing in 1 of 4 rows, first in line 5; "
            "fill it in or remove these rows",
        ]

    def test_one_class_only(self):
        put("a.csv", "q,label\na,0\nb,0\n")
        assert "column 'label' is '0' in all 2 training rows of 'a.csv'" in problem("a.csv")
        put("t.csv", "q,label\na,1\n")
        assert "two classes or more" in problem({"train": "a.csv", "test": "t.csv"})


class TestJsonlProblems:
    def test_lines_that_are_not_json_objects(self):
        put("a.jsonl", '{"q": "a", "label": 0}\n{"q": \n[1, 2]\n\n"q"\n{"q": NaN}x\nnull\n{}}\n')
        found = problems("a.jsonl")
        assert [text.partition(": ")[0] for text in found] == [f"a.jsonl, line {line}" for line in (2, 3, 5, 6, 7)]
        assert "is not JSON (Expecting value: line" in found[0]
        assert found[1].endswith(r"is not a JSON object: '[1, 2]\n'; write one object a line")

    @pytest.mark.parametrize("content", ['[{"q": "a"}]', '[\n  {\n    "q": "a"\n  }\n]\n'])
    def test_an_array(self, content):
        assert problem(put("a.json", content)).endswith(
            "one object a line (as `jq --compact-output '.[]'` does with an array)"
        )

    @pytest.mark.parametrize("line", ["[" * 100_000, '{"q": ' + "9" * 5000 + "}"])
    def test_what_python_refuses_to_parse(self, line):
        assert "a.jsonl, line 1: is not JSON (" in problem(put("a.jsonl", line))

    def test_empty(self):
        assert problem(put("a.jsonl", "\n")) == "a.jsonl: is empty; write one JSON object a line"

    def test_missing_keys(self):
        put("a.jsonl", '{"text": "a"}\n{"text": "b", "label": 1}\n')
        assert problem("a.jsonl").startswith("a.jsonl: there is no column 'q' (data.text); columns: 'text', 'label'")
        expected = "column 'label' (data.label) is empty or missing in 1 of 2 rows, first in line 1"
        assert expected in problem("a.jsonl", text="text")

    @pytest.mark.parametrize("value", ["null", '""', '" "'])
    def test_missing_texts(self, value):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n\n{{"q": {value}, "label": 1}}\n')
        assert "column 'q' (data.text) is empty or missing in 1 of 2 rows, first in line 3" in problem("a.jsonl")

    def test_all_texts_missing(self):
        put("a.jsonl", '{"q": null, "label": 0}\n{"q": null, "label": 1}\n')
        assert "is empty or missing in 2 of 2 rows, first in line 1" in problem("a.jsonl")

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
    def test_a_text_that_is_no_string(self, value, kind):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n{{"q": {value}, "label": 1}}\n')
        assert problem("a.jsonl") == f"a.jsonl, line 2: column 'q' is {kind}; data.text takes a string"

    @pytest.mark.parametrize(
        ("value", "kind"),
        [
            ("1.0", "1.0, a floating-point number"),
            ("[1]", "[1], a list"),
            (f"{2**63}", "a number of more than 64 bits"),
        ],
    )
    def test_a_label_that_is_no_class(self, value, kind):
        put("a.jsonl", f'{{"q": "a", "label": 0}}\n{{"q": "b", "label": {value}}}\n')
        found = problem("a.jsonl")
        assert found.startswith("a.jsonl, line 2: column 'label' is ")
        assert kind in found
        assert found.endswith("data.label takes a string or a whole number or a boolean")

    def test_mixed_labels(self):
        put("a.jsonl", '{"q": "a", "label": 0}\n{"q": "b", "label": "1"}\n{"q": "c", "label": true}\n')
        assert problem("a.jsonl") == (
            "a.jsonl: column 'label' mixes a whole number (0 in line 1) and a string ('1' in line 2) and a boolean "
            "(True in line 3); write all values of data.label alike"
        )


class TestOtherProblems:
    @pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
    def test_an_empty_text_file(self, name):
        assert problem(put(name, " \n"), label=None) == f"{name}: is empty; write one text a line"

    def test_a_text_file_has_one_column(self):
        found = problem(put("a.txt", "a\n"), text=["q", "r"])
        assert "is read as 'q' (data.text); it cannot hold 'r' (data.text) and 'label' (data.label)" in found

    def test_a_gz_that_is_not_gzip_or_cut_off(self):
        Path("a.csv.gz").write_bytes(b"q,label\na,0\n")
        assert problem("a.csv.gz").startswith("a.csv.gz: is not a whole gzip file (Not a gzipped file")
        whole = gzip.compress(b"q,label\n" + bytes(range(65, 91)) * 100)
        Path("a.csv.gz").write_bytes(whole[:-12])
        assert "a.csv.gz: is not a whole gzip file" in problem("a.csv.gz")
        Path("a.csv.gz").write_bytes(whole[:12] + b"\xff\xff\xff" + whole[15:])
        assert "compress it again" in problem("a.csv.gz")

    def test_a_parquet_that_is_not_parquet_or_cut_off(self):
        assert problem(put("a.parquet", "q,label\n")).startswith("a.parquet: is not a parquet file, or damaged (")
        put("a.parquet.gz", "PAR1")
        assert "is not a parquet file" in problem("a.parquet.gz")
        pq.write_table(pa.table({"q": ["a" * 1000, "b"], "label": [0, 1]}), "a.parquet", compression="none")
        whole = Path("a.parquet").read_bytes()
        Path("a.parquet").write_bytes(whole[:10] + b"\xff" * 30 + whole[40:])
        assert "damaged" in problem("a.parquet")

    def test_parquet_without_rows_or_columns(self):
        pq.write_table(pa.table({"q": pa.array([], pa.string()), "label": pa.array([], pa.int64())}), "a.parquet")
        assert problem("a.parquet") == "a.parquet: has no rows; add rows of data"
        assert "no column 'r' (data.text); columns: 'q', 'label'" in problem("a.parquet", text="r")

    def test_parquet_of_other_types(self):
        pq.write_table(pa.table({"q": [1, 2], "label": [0.0, 1.0], "tags": [["a"], ["b"]]}), "a.parquet")
        assert problems("a.parquet") == [
            "a.parquet: column 'q' holds integers, but data.text takes strings; convert the column",
            "a.parquet: column 'label' holds double values, but data.label takes strings, whole numbers or booleans; "
            "convert the column",
        ]
        assert "'tags' holds list<" in problems("a.parquet", label="tags")[1]

    def test_parquet_with_missing_values(self):
        pq.write_table(pa.table({"q": ["a", None, ""], "label": [0, 1, None]}), "a.parquet")
        assert [text.partition(";")[0] for text in problems("a.parquet")] == [
            "a.parquet: column 'q' (data.text) is empty or missing in 2 of 3 rows, first in row 2",
            "a.parquet: column 'label' (data.label) is empty or missing in 1 of 3 rows, first in row 3",
        ]

    def test_a_name_that_does_not_tell_the_format(self):
        put("d/a.xyz", "q\n")
        assert "d/a.xyz: the name does not tell the format of the file; set data.format" in problem("./d/a.xyz")

    def test_urls_are_downloaded_first(self):
        source = "https://h/a.csv"
        assert problem(source).startswith(f"data.source: '{source}': of addresses only s3:// is read")
        assert "download the file first (curl -O)" in problem(source)
        assert problem({"train": source}).startswith("data.source.train:")

    def test_a_file_system_that_fails_is_worth_another_try(self, monkeypatch):
        put("a.csv", "q,label\n")

        def fail(*args, **kwargs):
            raise OSError(5, "Input/output error")

        monkeypatch.setattr("builtins.open", fail)
        with pytest.raises(FtjobsError, match=r"a\.csv: reading failed") as caught:
            read(data("a.csv"))
        assert caught.value.exit_code == 1


class TestManyRows:
    """Files are read a few rows at a time; here three."""

    @pytest.fixture(autouse=True)
    def three_rows_at_a_time(self, monkeypatch):
        monkeypatch.setattr(columns, "_ROWS", 3)

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
    def test_all_rows_in_order(self, kind, count):
        texts, labels = [f"text {row}" for row in range(count)], [str(row % 2) for row in range(count)]
        assert rows(self.write(kind, texts, labels)) == {"q": texts, "label": labels}

    def test_all_lines_in_order(self):
        put("a.txt", "\n\n".join(f"text {row}" for row in range(10)))
        assert rows("a.txt", label=None) == {"q": [f"text {row}" for row in range(10)]}

    @pytest.mark.parametrize(("kind", "place"), [("csv", "line 7"), ("jsonl", "line 6"), ("parquet", "row 6")])
    def test_gaps_are_counted_over_all_rows_and_the_first_is_named(self, kind, place):
        texts = ["a"] * 5 + [" ", "b", "c", "", "d"]
        labels = ["0", "1"] * 4 + ["1", ""]
        second = {"line 7": "line 11", "line 6": "line 10", "row 6": "row 10"}[place]
        found = problems(self.write(kind, texts, labels))
        assert [text.partition(";")[0] for text in found] == [
            f"a.{kind}: column 'q' (data.text) is empty or missing in 2 of 10 rows, first in {place}",
            f"a.{kind}: column 'label' (data.label) is empty or missing in 1 of 10 rows, first in {second}",
        ]

    def test_kinds_that_change_late(self):
        self.write("jsonl", ["a"] * 10, [0] * 9 + ["1"])
        assert "mixes a whole number (0 in line 1) and a string ('1' in line 10)" in problem("a.jsonl")
        self.write("jsonl", ["a"] * 4 + [5] + ["b"] * 5, [0, 1] * 5)
        assert "line 5: column 'q' is 5, a whole number" in problem("a.jsonl")

    def test_what_is_wrong_late_is_all_that_is_said_as_it_was(self):
        put("a.csv", "q,label\n" + "a,0\nb,1\n" * 4 + ",\nx\nb,1,2\n")
        assert [text.partition(":")[0] for text in problems("a.csv")] == ["a.csv, line 11", "a.csv, line 12"]
        put("b.csv", "q,label\n" + "a,0\n" * 7 + '"b')
        assert problem("b.csv").startswith("b.csv, line 9: the quotes of the row")

    def test_problems_of_all_files_and_no_disagreement_with_a_bad_one(self):
        put("d/a.jsonl", "\n".join(json.dumps({"q": "a", "label": label}) for label in [0] * 7 + [None]))
        put("d/b.jsonl", "\n".join(json.dumps({"q": "b", "label": "1"}) for _ in range(7)))
        put("d/c.jsonl", "\n".join(json.dumps({"q": text, "label": 2}) for text in ["c"] * 7 + [""]))
        found = problems("d")
        assert [text.partition(" is empty or missing")[0] for text in found] == [
            "d/a.jsonl: column 'label' (data.label)",
            "d/c.jsonl: column 'q' (data.text)",
        ]
        put("d/a.jsonl", '{"q": "a", "label": 0}')
        assert problems("d")[0].startswith("d/b.jsonl: column 'label' holds strings, but in d/a.jsonl integers")

    def test_nothing_is_left_in_the_temporary_folder(self, tmp_path, monkeypatch):
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        self.write("csv", ["a", "b", "c", "d"], ["0", "1", "0", "1"])
        source = read(data("a.csv"))
        assert list((tmp_path / "temporary").iterdir()) == []
        assert source.splits["train"]["q"][:] == ["a", "b", "c", "d"]
        put("b.csv", "q,label\n" + "a,0\nb,1\n" * 4 + ",\n")
        problems("b.csv")
        assert list((tmp_path / "temporary").iterdir()) == []
