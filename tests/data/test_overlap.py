"""Which texts stand in two places."""

import re

from ftjobs.data.overlap import normalise, overlap, text_keys


def test_normalising_folds_case_and_white_space():
    assert normalise("  What\tis\n\u00a0IT? ") == "what is it?"
    assert normalise("Straße") == normalise("STRASSE")
    assert re.fullmatch(r"\S(.*\S)?", normalise(" a  b "))


def test_overlap_counts_distinct_texts_and_rows():
    train = [["x", "y"], ["p", "q"]]
    other = [["X ", "u", "u"], ["u", "Q", "w"]]
    both = overlap(text_keys(train), text_keys(other))
    assert both == {"texts": 4, "texts_in_training": 2, "rows": 3, "rows_in_training": 2}
    second = overlap(text_keys(train[1:]), text_keys(other[1:]))
    assert second == {"texts": 3, "texts_in_training": 1, "rows": 3, "rows_in_training": 1}
