"""The supported subset of YAML: values, lines, errors, and round trips."""

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjobs.errors import UserError
from ftjobs.jobfile.yaml_text import MAX_CHARACTERS, dump, parse
from tests.helpers.messages import mentions


def data(text: str) -> object:
    return parse(text, "job.yaml")[0]


def parse_error(text: str) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, "job.yaml")
    (problem,) = caught.value.problems
    assert problem.isprintable()
    return problem


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2e-5", 2e-5),
        ("2.0e-5", 2e-5),
        ("1E3", 1000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("+3", 3),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
    ],
)
def test_plain_scalars_of_other_types(text, value):
    parsed = data(f"a: {text}\n")["a"]
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    "text",
    ["no", "off", "yes", "on", "y", "NO", "1:30", "1_000", "0x10", "2026-01-01", ".inf", ".nan", "e5", "1e", "٣"],
)
def test_values_of_yaml_1_1_types_are_strings(text):
    assert data(f"a: {text}\n") == {"a": text}


def test_quoted_values_are_strings():
    assert data("a: '8'\nb: \"true\"\nc: 'null'\n") == {"a": "8", "b": "true", "c": "null"}


def test_keys_are_strings():
    assert data("3: a\n~: b\ntrue: c\n2.5: d\n") == {"3": "a", "~": "b", "true": "c", "2.5": "d"}


def test_lines_of_keys_and_items():
    _, lines = parse("# comment\na: 1\nb:\n  c: [x,\n    y]\n  d:\n    e\n", "job.yaml")
    assert lines == {
        (): 2,
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
        ("b", "c", 0): 4,
        ("b", "c", 1): 5,
        ("b", "d"): 6,
    }


def test_empty_document_is_none():
    assert parse("", "job.yaml") == (None, {})
    assert data("# only a comment\n") is None


@pytest.mark.parametrize("text", ["a: 1\nb: 2\na: 3\n", "a: 1\nb: 2\n'a': 3\n", "a: 1\nb: 2\n{a}: 3\n"])
def test_repeated_or_compound_key_is_an_error(text):
    problem = parse_error(text)
    repeated, compound = (mentions(problem, "job.yaml:3: ", part) for part in ("`a` is repeated", "must be a string"))
    assert repeated != compound


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: &x [1]\n", "&x a: 1\n", "&x\na: 1\n", "a: *x\n"])
def test_anchors_and_aliases_are_errors(text):
    assert mentions(parse_error(text), "job.yaml:1: ", "anchors and aliases", "write it out")


def test_merge_key_is_an_ordinary_key():
    assert data("a: {<<: {b: 1}}\n") == {"a": {"<<": {"b": 1}}}


def test_billion_laughs_are_not_expanded():
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 60)]
    assert "anchors and aliases" in parse_error("\n".join(lines))


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!!python/object/apply:os.system [ls]", "tag:yaml.org,2002:python/object/apply:os.system"),
        ("!!str 8", "tag:yaml.org,2002:str"),
        ("!!int abc", "tag:yaml.org,2002:int"),
        ("!!float abc", "tag:yaml.org,2002:float"),
        ("!!binary aGk=", "tag:yaml.org,2002:binary"),
        ("!!set {x}", "tag:yaml.org,2002:set"),
        ("!!seq [x]", "tag:yaml.org,2002:seq"),
        ("!mine {x: 1}", "!mine"),
        ("! 12", "!"),
    ],
)
def test_tags_are_errors(value, tag):
    problem = parse_error(f"b: 1\na: {value}\n")
    assert mentions(problem, "job.yaml:2: ", f"`{tag}`", "plain value")


def test_tag_of_a_key_is_an_error():
    assert "YAML tag" in parse_error("!!int a: 1\n")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\nb: [1, 2\n", 3),
        ("a: 1\n\tb: 2\n", 2),
        ("a: 1\nb: 'x\n", 3),
        ("a: 1\n b: 2\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ('a: 1\nb: "\\q"\n', 2),
        ("a: 1\nb: @\n", 2),
        ("a: 1\nb: \x01\n", 2),
        ("a: 1\nb: \ud800\n", 2),
    ],
)
def test_invalid_yaml_is_reported_with_its_line(text, line):
    assert mentions(parse_error(text), f"job.yaml:{line}: ", "not valid YAML")


def test_errors_without_line_numbers():
    with pytest.raises(UserError) as caught:
        parse("[1, 2", "--set seeds=[1, 2", numbered=False)
    assert mentions(str(caught.value), "--set seeds=[1, 2: ", "not valid YAML")


@pytest.mark.parametrize("text", ["[" * 50_000, "{a: " * 5_000 + "}" * 5_000, "- " * 5_000 + "x"])
def test_deep_nesting_is_an_error(text):
    assert mentions(parse_error(text), "job.yaml: ", "nested too deeply")


def test_very_long_numbers_are_errors():
    assert data(f"a: {'9' * 100}\n") == {"a": int("9" * 100)}
    assert mentions(parse_error(f"b: 1\na: {'9' * 5000}\n"), "job.yaml:2: ", "5000 digits")
    assert "5002 digits" in parse_error(f"a: 1.{'9' * 5000}\n")


def test_very_long_file_is_an_error():
    text = "# " + "x" * MAX_CHARACTERS
    assert mentions(parse_error(text), "job.yaml: ", f"{len(text)} characters", str(MAX_CHARACTERS))


TEXTS = (
    st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t\x85"))
    | st.from_regex(r"[-+.]?[0-9][0-9a-fx_o:.eE+-]{0,6}", fullmatch=True)
    | st.sampled_from(
        ["no", "Yes", "~", "null", "True", ".inf", "=", "<<", "on", "1e5", "12e34567", "0o17", "\u2028a", "\ufeffx"]
    )
)
VALUES = (
    TEXTS | st.integers(-(10**9), 10**9) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
)


@settings(max_examples=200, deadline=None)
@given(
    st.recursive(
        VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
    )
)
def test_dumped_values_are_read_back_by_parsers_of_yaml_1_1_and_1_2(value):
    text = dump(value)
    assert data(text) == value
    assert yaml.safe_load(text) == value
    assert dump(data(text)) == text


def test_dumped_strings_are_quoted_where_any_parser_would_convert_them():
    for text in ("1e5", "12e34567", "0x1f", "0o17", "no", "off", "1:30", "2026-01-01", ".5", "~"):  # Go's parsers too
        assert dump([text]) == f"['{text}']\n"
    assert dump("two\nlines\n") == "|\n  two\n  lines\n"
