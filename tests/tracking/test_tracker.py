from __future__ import annotations

import json

from ftjobs.tracking.tracker import RowLog


def test_row_is_complete_when_the_next_begins() -> None:
    row_log = RowLog()
    assert row_log.add({"train/loss": 1.0}, 10) is None
    assert row_log.add({"eval/accuracy": 0.5}, 10) is None
    assert row_log.add({"train/loss": 0.9}, 20) == (10, {"train/loss": 1.0, "eval/accuracy": 0.5})
    assert row_log.rows == [(10, {"train/loss": 1.0, "eval/accuracy": 0.5}), (20, {"train/loss": 0.9})]


def test_rows_of_an_earlier_attempt_are_kept_and_the_last_completed() -> None:
    first = RowLog()
    for step in (0, 10, 20):
        first.add({"train/loss": 1.0 / (step + 1)}, step)
    second = RowLog()
    second.add({"mlm/loss": 3.0}, 0)  # measured again before the state was loaded
    second.load(first.dump())
    assert second.add({"train/loss": 99.0}, 10) is None
    second.add({"eval/loss": 2.0}, 20)
    assert second.add({"train/loss": 0.1}, 30) == (20, {"train/loss": 1 / 21, "eval/loss": 2.0})
    assert [step for step, _ in second.rows] == [0, 10, 20, 30]
    assert second.rows[0] == (0, {"train/loss": 1.0})


def test_rows_logged_before_loading_are_kept_if_later() -> None:
    row_log = RowLog()
    row_log.add({"a": 1}, 5)
    row_log.load(json.dumps([[0, {"a": 0}]]))
    assert row_log.rows == [(0, {"a": 0}), (5, {"a": 1})]
