"""Rows of a run: each step once and whole, whoever logged it."""

from __future__ import annotations

import json

from ftjobs.tracking.journal import Journal


def test_a_row_is_whole_when_the_next_begins() -> None:
    journal = Journal()
    assert journal.add({"train/loss": 1.0}, 10) is None
    assert journal.add({"eval/accuracy": 0.5}, 10) is None
    assert journal.add({"train/loss": 0.9}, 20) == (10, {"train/loss": 1.0, "eval/accuracy": 0.5})
    assert journal.rows == [(10, {"train/loss": 1.0, "eval/accuracy": 0.5}), (20, {"train/loss": 0.9})]


def test_what_an_earlier_attempt_logged_is_passed_over_and_its_last_row_completed() -> None:
    first = Journal()
    for step in (0, 10, 20):
        first.add({"train/loss": 1.0 / (step + 1)}, step)
    second = Journal()
    second.add({"mlm/loss": 3.0}, 0)  # measured again before the state was found
    second.load(first.dump())
    assert second.add({"train/loss": 99.0}, 10) is None
    second.add({"eval/loss": 2.0}, 20)
    assert second.add({"train/loss": 0.1}, 30) == (20, {"train/loss": 1 / 21, "eval/loss": 2.0})
    assert [step for step, _ in second.rows] == [0, 10, 20, 30]
    assert second.rows[0] == (0, {"train/loss": 1.0})


def test_rows_that_came_before_the_state_and_go_beyond_it_stay() -> None:
    journal = Journal()
    journal.add({"a": 1}, 5)
    journal.load(json.dumps([[0, {"a": 0}]]))
    assert journal.rows == [(0, {"a": 0}), (5, {"a": 1})]
