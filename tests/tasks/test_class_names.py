"""Names and order of classes, and their encoding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjobs.errors import UserError
from ftjobs.tasks.classification import Classification


def class_names(*splits):
    return Classification().label_names(splits, "label")


def encode(values, names):
    return Classification().encode([values], names)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, 1, 9], ["1", "9", "10"]),
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (np.array([2, 0, 1]), ["0", "1", "2"]),
        (["b", "a", "B"], ["B", "a", "b"]),
        (["10", "9", "x"], ["10", "9", "x"]),
        (["01", "1", "0"], ["0", "01", "1"]),
        (["1.5", "1.25"], ["1.25", "1.5"]),
        (["²", "1"], ["1", "²"]),
        ([True, False], ["false", "true"]),
        (np.array([True, False]), ["false", "true"]),
        (["NA", "None"], ["NA", "None"]),
    ],
)
def test_class_names_sort_numerically_if_all_are_whole_numbers(values, names):
    assert class_names(values) == names


def test_class_names_include_classes_of_other_splits():
    assert class_names([0, 2], [1, 2], [3]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("values", "message"), [(["yes"] * 3, "'yes'"), ([], "no labels")])
def test_class_names_require_two_training_classes(values, message):
    with pytest.raises(UserError, match=f"^data.label: .*{message}.*check data.label"):
        class_names(values, ["no"])


def test_encode_returns_int64_class_indices():
    labels = encode(["9", "10", "9"], ["9", "10"])
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 0]
    assert encode(np.array([True, False]), ["false", "true"]).tolist() == [1, 0]
    assert encode([], ["a", "b"]).shape == (0,)


def test_encode_reports_unknown_label_and_known_classes():
    with pytest.raises(UserError, match=r"^data.label: 'c' .*\('a', 'b'\)"):
        encode(["a", "c"], ["a", "b"])


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=2).filter(lambda v: len({str(x) for x in v}) > 1))
def test_encode_then_names_restores_labels_in_any_order(values):
    names = class_names(values)
    assert [names[index] for index in encode(values, names)] == [str(value) for value in values]
    assert class_names(reversed(values)) == names
