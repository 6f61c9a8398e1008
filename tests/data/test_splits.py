"""Division of rows into training, validation and test."""

import math

import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ftjobs.data.overlap import measure_overlap, normalize, text_keys
from ftjobs.data.splits import divide
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Split
from tests.helpers.messages import mentions


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"q": [f"text {row}" for row in range(count)], "id": list(range(count))})


def divide_error(source: dict, settings: Split, text_columns=("q",)) -> str:
    with pytest.raises(UserError) as caught:
        divide(source, settings, list(text_columns))
    return str(caught.value)


def test_reference_split_equals_train_test_split():
    parts = divide({"train": rows(3048)}, Split(test_fraction=0.07, seed=42), ["q"])
    expected = rows(3048).train_test_split(test_size=0.07, seed=42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 2834, "test": 214}
    assert parts["train"]["id"][:] == expected["train"]["id"][:]
    assert parts["test"]["id"][:] == expected["test"]["id"][:]
    # Pins the shuffling of `datasets`, which the reference experiment depends on.
    assert parts["test"]["id"][:5] == [1779, 2726, 1172, 2084, 2710]


def test_validation_is_drawn_from_the_rows_left_after_test():
    parts = divide({"train": rows(100)}, Split(test_fraction=0.2, validation_fraction=0.25, seed=7), ["q"])
    left = rows(100).train_test_split(test_size=0.2, seed=7)["train"].train_test_split(test_size=0.25, seed=7)
    assert list(parts) == ["train", "validation", "test"]
    assert parts["train"]["id"][:] == left["train"]["id"][:]
    assert parts["validation"]["id"][:] == left["test"]["id"][:]
    assert sorted(number for part in parts.values() for number in part["id"]) == list(range(100))


def test_source_are_used_as_given():
    source = {"test": rows(3), "validation": rows(2), "train": rows(5)}
    parts = divide(source, Split(), ["q"])
    assert list(parts) == ["train", "validation", "test"]
    assert all(parts[name] is source[name] for name in parts)
    assert list(divide({"train": rows(5), "test": rows(3)}, Split(), ["q"])) == ["train", "test"]
    divided = divide({"train": rows(8), "test": rows(3)}, Split(validation_fraction=0.25), ["q"])
    assert {name: len(part) for name, part in divided.items()} == {"train": 6, "validation": 2, "test": 3}


def test_fraction_of_a_split_that_the_source_has_is_an_error():
    message = divide_error({"train": rows(9), "test": rows(3)}, Split(test_fraction=0.5))
    assert mentions(message, "data.split.test_fraction: 0.5", "3 rows", "remove test_fraction")
    both = Split(test_fraction=0.5, validation_fraction=0.5)
    message = divide_error({"train": rows(9), "test": rows(3), "validation": rows(2)}, both)
    assert "data.split.validation_fraction: 0.5" in message
    assert len(message.splitlines()) == 2


def test_missing_test_split_is_an_error():
    message = divide_error({"train": rows(9)}, Split(validation_fraction=0.1))
    assert mentions(message, "data.split.test_fraction: ", "no test split", "set it")


def test_grouping_without_a_fraction_is_an_error():
    message = divide_error({"train": rows(9), "test": rows(3)}, Split(group_by="connected"))
    assert mentions(message, "data.split.group_by: 'connected'", "remove it")


@pytest.mark.parametrize("group_by", [None, "connected"])
def test_too_few_rows_are_an_error(group_by):
    message = divide_error({"train": rows(1)}, Split(test_fraction=0.5, group_by=group_by))
    assert mentions(message, "data.split.test_fraction: ", "0.5 of 1 rows", "none for training")
    too_many = Split(test_fraction=0.5, validation_fraction=0.9, group_by=group_by)
    assert "data.split.validation_fraction: 0.9 of 2 rows" in divide_error({"train": rows(4)}, too_many)


def test_missing_grouping_column_is_an_error():
    message = divide_error({"train": rows(9)}, Split(test_fraction=0.5, group_by="doctor"))
    assert mentions(message, "data.split.group_by: ", "'doctor'", "q, id", "connected")


def test_groups_larger_than_the_split_are_an_error():
    same = Dataset.from_dict({"q": ["a"] * 6 + ["b"] * 4})
    message = divide_error({"train": same}, Split(test_fraction=0.3, group_by="connected"))
    assert mentions(message, "0.3 of 10", "is 3", "group_by: connected", "largest has 6", "smallest 4")


def test_connected_rows_include_other_columns_and_indirect_ones():
    pairs = Dataset.from_dict({"a": ["x", "Y ", "p", "p", "u"], "b": ["y", "z", "q", "r", "v"]})
    for seed in range(20):
        parts = divide({"train": pairs}, Split(test_fraction=0.4, seed=seed, group_by="connected"), ["a", "b"])
        assert parts["test"]["a"][:] in (["x", "Y "], ["p", "p"], ["u"])


def test_rows_with_equal_values_stay_together_and_in_order():
    table = Dataset.from_dict({"q": [f"t{n}" for n in range(90)], "doctor": [n % 30 for n in range(90)]})
    parts = divide({"train": table}, Split(test_fraction=0.1, validation_fraction=0.2, group_by="doctor"), ["q"])
    assert {name: len(part) for name, part in parts.items()} == {"train": 66, "validation": 15, "test": 9}
    doctors = [set(part["doctor"]) for part in parts.values()]
    assert not doctors[0] & doctors[1] | doctors[0] & doctors[2] | doctors[1] & doctors[2]
    for part in parts.values():
        assert part["q"][:] == sorted(part["q"], key=lambda text: int(text[1:]))


def test_groups_depend_on_the_seed():
    table = {"train": rows(50)}
    chosen = [divide(table, Split(test_fraction=0.2, seed=s, group_by="id"), ["q"])["test"]["id"][:] for s in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


texts = st.sampled_from(["a", "A", " a", "b", "b  c", "B C", "d", "e", "f", "g", "ß", "SS", "h", "i", "j"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(texts, texts), min_size=2, max_size=25),
    st.floats(0.05, 0.9),
    st.integers(0, 2**32 - 1),
)
def test_connected_splits_share_no_text(pairs, fraction, seed):
    table = Dataset.from_dict({"a": [p[0] for p in pairs], "b": [p[1] for p in pairs], "id": list(range(len(pairs)))})
    target = math.ceil(fraction * len(pairs))
    assume(target < len(pairs))
    settings_of_split = Split(test_fraction=fraction, seed=seed, group_by="connected")
    smallest = min(brute_force_sizes(pairs))
    if smallest > target:
        assert f"the smallest {smallest})" in divide_error({"train": table}, settings_of_split, ["a", "b"])
        return
    parts = divide({"train": table}, settings_of_split, ["a", "b"])
    assert sorted([*parts["train"]["id"], *parts["test"]["id"]]) == list(range(len(pairs)))
    assert parts["train"]["id"][:] == sorted(parts["train"]["id"])
    assert parts["test"]["id"][:] == sorted(parts["test"]["id"])
    assert 0 < len(parts["test"]) <= target
    train, test = (text_keys([part["a"], part["b"]]) for part in (parts["train"], parts["test"]))
    assert measure_overlap(train, test)["texts_in_training"] == 0
    # Every group in training is larger than the room left in test.
    left = brute_force_sizes(list(zip(parts["train"]["a"], parts["train"]["b"], strict=True)))
    assert min(left) > target - len(parts["test"])


def brute_force_sizes(pairs: list[tuple[str, str]]) -> list[int]:
    """Return the size of each group of pairs that share texts, by merging until nothing changes."""
    groups = [({normalize(a), normalize(b)}, 1) for a, b in pairs]
    merged = True
    while merged:
        merged = False
        for group in groups:
            near = [other for other in groups if other[0] & group[0]]
            if len(near) > 1:
                rest = [other for other in groups if not other[0] & group[0]]
                groups = [*rest, (set().union(*(g[0] for g in near)), sum(g[1] for g in near))]
                merged = True
                break
    return [size for _, size in groups]
