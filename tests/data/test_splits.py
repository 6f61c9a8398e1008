import math

import pytest
from datasets import Dataset
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ftjobs.data.overlap import normalise, overlap, text_keys
from ftjobs.data.splits import split
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Split


def rows(count: int) -> Dataset:
    return Dataset.from_dict({"q": [f"text {row}" for row in range(count)], "id": list(range(count))})


def refused(given_splits: dict, settings: Split, text_columns=("q",)) -> str:
    with pytest.raises(UserError) as caught:
        split(given_splits, settings, list(text_columns))
    return str(caught.value)


def test_the_reference_split_is_that_of_datasets():
    parts = split({"train": rows(3048)}, Split(test_fraction=0.07, seed=42), ["q"])
    expected = rows(3048).train_test_split(test_size=0.07, seed=42)
    assert {name: len(part) for name, part in parts.items()} == {"train": 2834, "test": 214}
    assert parts["train"]["id"][:] == expected["train"]["id"][:]
    assert parts["test"]["id"][:] == expected["test"]["id"][:]
    # Part of the reference experiment: a version of the library that shuffles otherwise must be noticed.
    assert parts["test"]["id"][:5] == [1779, 2726, 1172, 2084, 2710]


def test_validation_is_taken_from_what_is_left_after_test_with_the_same_seed():
    parts = split({"train": rows(100)}, Split(test_fraction=0.2, validation_fraction=0.25, seed=7), ["q"])
    left = rows(100).train_test_split(test_size=0.2, seed=7)["train"].train_test_split(test_size=0.25, seed=7)
    assert list(parts) == ["train", "validation", "test"]
    assert parts["train"]["id"][:] == left["train"]["id"][:]
    assert parts["validation"]["id"][:] == left["test"]["id"][:]
    assert sorted(number for part in parts.values() for number in part["id"]) == list(range(100))


def test_given_splits_are_used_as_given():
    given_splits = {"test": rows(3), "validation": rows(2), "train": rows(5)}
    parts = split(given_splits, Split(), ["q"])
    assert list(parts) == ["train", "validation", "test"]
    assert all(parts[name] is given_splits[name] for name in parts)
    assert list(split({"train": rows(5), "test": rows(3)}, Split(), ["q"])) == ["train", "test"]
    divided = split({"train": rows(8), "test": rows(3)}, Split(validation_fraction=0.25), ["q"])
    assert {name: len(part) for name, part in divided.items()} == {"train": 6, "validation": 2, "test": 3}


def test_a_split_given_and_asked_for_is_an_error():
    message = refused({"train": rows(9), "test": rows(3)}, Split(test_fraction=0.5))
    assert "data.split.test_fraction: 0.5 asks for a test split, but the source has its own of 3 rows" in message
    assert "remove test_fraction" in message
    both = Split(test_fraction=0.5, validation_fraction=0.5)
    message = refused({"train": rows(9), "test": rows(3), "validation": rows(2)}, both)
    assert "data.split.validation_fraction: 0.5 asks for a validation split" in message
    assert len(message.splitlines()) == 2


def test_no_test_split_at_all_is_an_error():
    message = refused({"train": rows(9)}, Split(validation_fraction=0.1))
    assert "data.split.test_fraction: not set, and the source has no test split of its own; set it" in message


def test_grouping_without_anything_to_divide_is_an_error():
    message = refused({"train": rows(9), "test": rows(3)}, Split(group_by="connected"))
    assert "data.split.group_by: 'connected' has no effect" in message


@pytest.mark.parametrize("group_by", [None, "connected"])
def test_too_few_rows_to_divide(group_by):
    message = refused({"train": rows(1)}, Split(test_fraction=0.5, group_by=group_by))
    assert "data.split.test_fraction: 0.5 of 1 rows, rounded up, leaves none for training" in message
    too_many = Split(test_fraction=0.5, validation_fraction=0.9, group_by=group_by)
    assert "data.split.validation_fraction: 0.9 of 2 rows" in refused({"train": rows(4)}, too_many)


def test_a_column_to_group_by_must_be_there():
    message = refused({"train": rows(9)}, Split(test_fraction=0.5, group_by="doctor"))
    assert "data.split.group_by: there is no column 'doctor' (columns: q, id)" in message


def test_groups_larger_than_the_split_are_an_error():
    same = Dataset.from_dict({"q": ["a"] * 6 + ["b"] * 4})
    message = refused({"train": same}, Split(test_fraction=0.3, group_by="connected"))
    assert "0.3 of 10 rows is 3, but every group of group_by: connected is larger" in message
    assert "largest has 6 rows, the smallest 4" in message


def test_texts_connect_rows_across_columns_and_through_other_rows():
    pairs = Dataset.from_dict({"a": ["x", "Y ", "p", "p", "u"], "b": ["y", "z", "q", "r", "v"]})
    for seed in range(20):
        parts = split({"train": pairs}, Split(test_fraction=0.4, seed=seed, group_by="connected"), ["a", "b"])
        assert parts["test"]["a"][:] in (["x", "Y "], ["p", "p"], ["u"])


def test_rows_of_a_column_s_value_stay_together_and_in_order():
    table = Dataset.from_dict({"q": [f"t{n}" for n in range(90)], "doctor": [n % 30 for n in range(90)]})
    parts = split({"train": table}, Split(test_fraction=0.1, validation_fraction=0.2, group_by="doctor"), ["q"])
    assert {name: len(part) for name, part in parts.items()} == {"train": 66, "validation": 15, "test": 9}
    doctors = [set(part["doctor"]) for part in parts.values()]
    assert not doctors[0] & doctors[1] | doctors[0] & doctors[2] | doctors[1] & doctors[2]
    for part in parts.values():
        assert part["q"][:] == sorted(part["q"], key=lambda text: int(text[1:]))


def test_the_seed_decides():
    table = {"train": rows(50)}
    chosen = [split(table, Split(test_fraction=0.2, seed=s, group_by="id"), ["q"])["test"]["id"][:] for s in (1, 1, 2)]
    assert chosen[0] == chosen[1] != chosen[2]


texts = st.sampled_from(["a", "A", " a", "b", "b  c", "B C", "d", "e", "f", "g", "ß", "SS", "h", "i", "j"])


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(texts, texts), min_size=2, max_size=25),
    st.floats(0.05, 0.9),
    st.integers(0, 2**32 - 1),
)
def test_connected_groups_never_share_a_text(pairs, fraction, seed):
    table = Dataset.from_dict({"a": [p[0] for p in pairs], "b": [p[1] for p in pairs], "id": list(range(len(pairs)))})
    target = math.ceil(fraction * len(pairs))
    assume(target < len(pairs))
    wanted = Split(test_fraction=fraction, seed=seed, group_by="connected")
    smallest = min(brute_force_sizes(pairs))
    if smallest > target:
        assert f"the smallest {smallest})" in refused({"train": table}, wanted, ["a", "b"])
        return
    parts = split({"train": table}, wanted, ["a", "b"])
    assert sorted([*parts["train"]["id"], *parts["test"]["id"]]) == list(range(len(pairs)))
    assert parts["train"]["id"][:] == sorted(parts["train"]["id"])
    assert parts["test"]["id"][:] == sorted(parts["test"]["id"])
    assert 0 < len(parts["test"]) <= target
    train, test = (text_keys([part["a"], part["b"]]) for part in (parts["train"], parts["test"]))
    assert overlap(train, test)["texts_in_training"] == 0
    # Every group left in training is larger than the room left in test.
    left = brute_force_sizes(list(zip(parts["train"]["a"], parts["train"]["b"], strict=True)))
    assert min(left) > target - len(parts["test"])


def brute_force_sizes(pairs: list[tuple[str, str]]) -> list[int]:
    """Rows of each group of pairs that share texts, by merging until nothing changes."""
    groups = [({normalise(a), normalise(b)}, 1) for a, b in pairs]
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
