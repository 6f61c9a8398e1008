import pytest

from ftjobs.kubernetes.job_state import JobState


def job(metadata=None, spec=None, **status):
    return {"metadata": {"name": "a", **(metadata or {})}, "spec": {"completions": 9, **(spec or {})}, "status": status}


def state(*arguments, **status):
    found = JobState.of(job(*arguments, **status))
    assert found is not None
    return found


def test_a_fresh_job():
    assert JobState.of({"metadata": {"name": "a"}, "spec": {"suspend": True}}) == JobState("a", suspended=True)


def test_conditions_count_only_while_they_are_true():
    conditions = [{"type": "Complete", "status": "False"}, {"type": "Failed", "status": "Unknown", "reason": "x"}]
    assert state(conditions=conditions) == JobState("a", suspended=False)
    assert state(conditions=[{"type": "Complete", "status": "True"}]).complete


def test_a_job_whose_pods_are_still_ending_has_not_failed_yet():
    target = {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}
    assert state(conditions=[target]).failure is None
    assert state(conditions=[target, {**target, "type": "Failed"}]).failure == "BackoffLimitExceeded"


@pytest.mark.parametrize(
    ("condition", "words"),
    [
        (
            {"reason": "DeadlineExceeded", "message": "Job was active\nlonger  than"},
            "DeadlineExceeded: Job was active longer than",
        ),
        ({"message": "why"}, "why"),
        ({"reason": "", "message": None}, "Failed"),
    ],
)
def test_why_it_failed(condition, words):
    assert state(conditions=[{"type": "Failed", "status": "True", **condition}]).failure == words


@pytest.mark.parametrize(
    ("text", "indexes"),
    [("", ()), ("0", {0}), ("1,3-5,8", {1, 3, 4, 5, 8}), ("7-4000000000", {7, 8}), ("x,1-", ())],
)
def test_failed_indexes(text, indexes):
    assert state(failedIndexes=text).failed_indexes == frozenset(indexes)


def test_a_job_that_is_being_deleted_is_none():
    assert JobState.of(job({"deletionTimestamp": "2026-11-23T09:00:00Z"})) is None


def test_what_is_no_reason_to_look_again():
    assert state(active=1, ready=0) == state(active=2, ready=2)
    assert state({"annotations": {"ftjobs/suspended": "waits for a"}}) == state()
    assert state(succeeded=1) != state()
    assert state(spec={"suspend": True}) != state()
    assert state(failedIndexes="1") != state()


@pytest.mark.parametrize(("generation", "begun"), [(1, False), (2, True), (3, True)])
def test_whether_it_ever_ran(generation, begun):
    assert state({"generation": generation}, {"suspend": True}).begun == begun
