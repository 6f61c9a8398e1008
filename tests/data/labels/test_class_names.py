import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftjobs.data.labels.class_names import class_names, encode
from ftjobs.errors import UserError


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
def test_names_and_their_order(values, names):
    assert class_names(values) == names


def test_a_class_only_in_another_split_has_a_name_too():
    assert class_names([0, 2], [1, 2], [3]) == ["0", "1", "2", "3"]


@pytest.mark.parametrize(("values", "found"), [(["yes"] * 3, "only the class 'yes'"), ([], "no labels at all")])
def test_training_needs_two_classes(values, found):
    with pytest.raises(UserError, match=f"data.label: the training split has {found}; .* two classes or more"):
        class_names(values, ["no"])


def test_labels_are_indices():
    labels = encode(["9", "10", "9"], ["9", "10"])
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 0]
    assert encode(np.array([True, False]), ["false", "true"]).tolist() == [1, 0]
    assert encode([], ["a", "b"]).shape == (0,)


def test_an_unknown_label_is_named():
    with pytest.raises(UserError, match=r"data.label: 'c' is not among the 2 classes \('a', 'b'\)"):
        encode(["a", "c"], ["a", "b"])


@given(st.lists(st.one_of(st.integers(), st.text()), min_size=2).filter(lambda v: len({str(x) for x in v}) > 1))
def test_encoding_is_undone_by_the_names(values):
    names = class_names(values)
    assert [names[index] for index in encode(values, names)] == [str(value) for value in values]
    assert class_names(reversed(values)) == names
