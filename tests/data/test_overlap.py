"""Texts that appear in two splits."""

import re

from ftjobs.data.overlap import measure_overlap, normalize, text_keys


def test_normalize_folds_case_and_white_space():
    assert normalize("  What\tis\n\u00a0IT? ") == "what is it?"
    assert normalize("Straße") == normalize("STRASSE")
    assert re.fullmatch(r"\S(.*\S)?", normalize(" a  b "))


def test_overlap_counts_distinct_texts_and_rows():
    train = [["x", "y"], ["p", "q"]]
    other = [["X ", "u", "u"], ["u", "Q", "w"]]
    both = measure_overlap(text_keys(train), text_keys(other))
    assert both == {"texts": 4, "texts_in_training": 2, "rows": 3, "rows_in_training": 2}
    second = measure_overlap(text_keys(train[1:]), text_keys(other[1:]))
    assert second == {"texts": 3, "texts_in_training": 1, "rows": 3, "rows_in_training": 1}
