"""Decisions: every case by name, and random pipelines under random events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjobs.kubernetes.job_state import JobState
from ftjobs.kubernetes.reconcile import ACTIVE, Decision, State, View, decide
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, SUSPENDED, StageJob, stage_jobs
from ftjobs.plan import Report, StageRun
from tests.fakes.kubernetes_api import merged

RELEASE = {"spec": {"suspend": False}, "metadata": {}}


def pipeline(needs: dict[str, list[str]], seeds: dict[str, int], nodes: int = 1) -> list[StageJob]:
    """Stages by name with what each reads; a seed reads the same seed of a stage that has it, else its first."""
    runs: dict[tuple[str, int], StageRun] = {}
    for name, reads in needs.items():
        for seed in range(seeds.get(name, 1)):
            inputs = {read: runs[read, seed if seed < seeds.get(read, 1) else 0] for read in reads}
            if name == "report":
                inputs = {f"{run.stage}/{run.seed}": run for run in runs.values()}
            empty = Report(pipeline="p", stages=[], hypotheses=[], own_data={}, job={})
            runs[name, seed] = StageRun("p", name, "classify", seed, empty, f"{name}-{seed}".ljust(64, "0"), inputs)
    return stage_jobs(list(runs.values()), nodes)


#: prepare -> adapt (2 seeds) -> head (2 seeds); prepare -> plain; report reads all.
STAGES = pipeline(
    {"prepare": [], "adapt": ["prepare"], "head": ["prepare", "adapt"], "plain": ["prepare"], "report": []},
    {"adapt": 2, "head": 2},
)
BY_NAME = {stage.stage: stage for stage in STAGES}
FAILED = {"failure": "BackoffLimitExceeded: Job has reached the specified backoff limit"}


def view(
    published: str = "", lost: str = "", absent: str = "", queue: str | None = None, **changed: dict[str, Any]
) -> View:
    """All Jobs suspended; `published` are stages, or seeds such as `adapt/1`; the rest are fields of Jobs by stage."""
    jobs = {
        stage.name: replace(JobState(stage.name, suspended=True), **changed.get(stage.stage, {}))
        for stage in STAGES
        if stage.stage not in absent.split()
    }
    keys = {
        run.key
        for stage in STAGES
        for run in stage.runs
        if {stage.stage, f"{stage.stage}/{run.seed}"} & set(published.split())
    }
    return View(jobs, keys, {BY_NAME[name].name for name in lost.split()}, queue=queue)


def decided(*arguments: Any, **named: Any) -> dict[str, Decision]:
    return {one.job.stage: one for one in decide(STAGES, view(*arguments, **named))}


def states(*arguments: Any, **named: Any) -> str:
    return " ".join(one.state.value for one in decided(*arguments, **named).values())


RUNS = {"suspended": False}
DONE = {"suspended": False, "complete": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (view(), "released waiting waiting waiting waiting"),
        (view("prepare", prepare=RUNS), "published released waiting released waiting"),
        (view("prepare adapt/0"), "published released waiting released waiting"),
        (view("prepare adapt"), "published published released released waiting"),
        (view("prepare adapt head"), "published published published released waiting"),
        (view("prepare adapt head plain"), "published published published published released"),
        (view("prepare adapt head plain report"), "published published published published published"),
        (view("prepare adapt head plain report", absent="prepare adapt head plain report"), "published published published published published"),
        # failures
        (view(prepare=FAILED), "failed blocked blocked blocked blocked"),
        (view("prepare", adapt=FAILED, plain=RUNS), "published failed blocked released blocked"),
        (view("prepare adapt", adapt=FAILED), "published published released released waiting"),
        (view("prepare", adapt={"failed_indexes": frozenset({1})}), "published failing blocked released blocked"),
        (view("prepare adapt/1", adapt={"failed_indexes": frozenset({1})}), "published released waiting released waiting"),
        (view("prepare adapt", head=FAILED), "published published failed released blocked"),
        (view(adapt={"failed_indexes": frozenset({1})}), "released failed blocked waiting blocked"),
        # Jobs that are not there
        (view("prepare", absent="adapt"), "published absent waiting released waiting"),
        (view("prepare", absent="adapt", lost="adapt"), "published failed blocked released blocked"),
        (view("prepare adapt", absent="adapt", lost="adapt"), "published published released released waiting"),
        (view(absent="prepare adapt", lost="prepare adapt"), "failed failed blocked blocked blocked"),
        # Jobs that are complete and left nothing
        (view("prepare", adapt=DONE), "published absent waiting released waiting"),
        (view("prepare", adapt=DONE, lost="adapt"), "published failed blocked released blocked"),
    ],
)  # fmt: skip
def test_states(given: View, expected: str) -> None:
    assert " ".join(one.state.value for one in decide(STAGES, given)) == expected


def test_a_stage_is_resumed_when_all_that_any_of_its_seeds_reads_is_published() -> None:
    assert decided()["prepare"].patch == RELEASE
    assert not decided("prepare adapt/0")["head"].releases
    assert decided("prepare adapt")["head"].patch == RELEASE


def test_what_runs_or_has_ended_is_left_alone() -> None:
    assert decided(prepare=RUNS)["prepare"].patch is None
    assert decided("prepare", prepare={"suspended": True, "complete": True})["prepare"].patch is None
    assert decided(prepare={**FAILED, "suspended": True})["prepare"].patch is None


def test_what_is_published_and_has_begun_is_let_come_to_its_end() -> None:
    assert decided("prepare", prepare={"begun": True})["prepare"].patch == RELEASE
    assert decided("prepare", prepare={"begun": True, "complete": True})["prepare"].patch is None
    assert decided("prepare", prepare={"begun": True, "queue": "gpus"})["prepare"].patch is None


def test_what_is_published_is_not_begun_and_says_so() -> None:
    assert decided("prepare")["prepare"].patch == {
        "metadata": {"annotations": {SUSPENDED: "published already; nothing to run"}}
    }


def test_a_stage_that_waits_says_for_what() -> None:
    assert decided("adapt")["head"].patch == {"metadata": {"annotations": {SUSPENDED: "waits for prepare"}}}
    assert decided(head={"note": "waits for prepare, adapt"})["head"].patch is None
    released = decided("prepare adapt", head={"note": "waits for prepare, adapt"})["head"]
    assert released.patch == {"spec": {"suspend": False}, "metadata": {"annotations": {SUSPENDED: None}}}


def test_a_stage_that_is_blocked_says_by_what() -> None:
    found = decided("prepare", adapt=FAILED, plain=FAILED)
    assert found["head"].patch == {
        "metadata": {"annotations": {SUSPENDED: f"blocked: adapt failed: {FAILED['failure']}"}}
    }
    assert found["report"].why == f"adapt failed: {FAILED['failure']}; plain failed: {FAILED['failure']}"


def test_a_note_is_never_too_long_for_the_api() -> None:
    found = decided(prepare={"failure": "x" * 300_000})
    assert len(found["report"].patch["metadata"]["annotations"][SUSPENDED]) <= 500


def test_errors_from_storage_say_more() -> None:
    first, second = BY_NAME["adapt"].runs
    given = view("prepare", adapt={"failed_indexes": frozenset({0, 1}), "suspended": False})
    found = decide(STAGES, replace(given, errors={first.key: "out of memory", second.key: "out of memory"}))
    assert found[1].why == "no more tries for adapt seed 0, adapt seed 1; adapt seed 0, adapt seed 1: out of memory"


def test_a_suspended_job_with_failed_seeds_goes_on_with_the_others() -> None:
    assert decided("prepare", adapt={"failed_indexes": frozenset({1})})["adapt"].patch == RELEASE


def test_seeds_with_jobs_of_their_own_go_each_their_way() -> None:
    reads = {"prepare": [], "adapt": ["prepare"], "head": ["prepare", "adapt"], "report": []}
    stages = pipeline(reads, {"adapt": 2, "head": 2}, nodes=2)
    prepare, first, second, *heads, report = stages
    assert [stage.title for stage in (first, *heads)] == ["adapt seed 0", "head seed 0", "head seed 1"]
    jobs = {stage.name: JobState(stage.name, suspended=True) for stage in stages}
    jobs[second.name] = replace(jobs[second.name], failure="PodFailurePolicy: exit code 2")
    published = {prepare.runs[0].key, first.runs[0].key}
    found = decide(stages, View(jobs, published))
    assert [one.state.value for one in found] == "published published failed released blocked blocked".split()
    assert found[3].patch == RELEASE
    assert found[4].why == "adapt seed 1 failed: PodFailurePolicy: exit code 2"
    assert found[5].why == found[4].why
    assert report is found[5].job


class TestKueue:
    def test_the_queue_label_instead_of_resuming(self) -> None:
        assert decided(queue="gpus")["prepare"].patch == {"metadata": {"labels": {KUEUE_QUEUE: "gpus"}}}
        assert decided(queue="gpus")["prepare"].releases
        assert decided(prepare={"wanted_queue": "cpus"}, queue="gpus")["prepare"].patch == {
            "metadata": {"labels": {KUEUE_QUEUE: "cpus"}}
        }

    def test_what_is_in_a_queue_is_kueues_to_start_and_to_stop(self) -> None:
        for queue in (None, "gpus", "cpus"):
            assert decided(prepare={"queue": "gpus", "suspended": True}, queue=queue)["prepare"].patch is None

    def test_what_runs_without_a_queue_is_not_put_into_one(self) -> None:
        assert decided(prepare=RUNS, queue="gpus")["prepare"].patch is None


@st.composite
def pipelines(draw: st.DrawFn) -> list[StageJob]:
    names = [f"s{index}" for index in range(draw(st.integers(1, 6)))]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        for index, name in enumerate(names)
    }
    return pipeline(needs | {"report": []}, {name: draw(st.integers(1, 3)) for name in names}, draw(st.integers(1, 2)))


class World:
    """Jobs, storage, and conductors that each act on what they saw some time ago."""

    def __init__(self, stages: list[StageJob], queue: str | None) -> None:
        self.stages, self.queue = stages, queue
        self.by_name = {stage.name: stage for stage in stages}
        self.jobs: dict[str, dict[str, Any]] = {}
        self.published: set[str] = set()
        self.failed: dict[str, set[int]] = {}
        self.ended: dict[str, JobState] = {}
        for stage in stages:
            self.apply(stage)

    def apply(self, stage: StageJob) -> None:
        manifest = {"metadata": {"name": stage.name}, "spec": {"suspend": True, "completions": len(stage.runs)}}
        self.jobs[stage.name] = merged(
            self.jobs.get(stage.name, {"metadata": {"generation": 1}, "status": {}}), manifest
        )

    def view(self, *, patient: bool) -> View:
        found = {name: state for name, job in self.jobs.items() if (state := JobState.of(job))}
        lost = [] if patient else [stage.name for stage in self.stages if stage.name not in found]
        return View(found, frozenset(self.published), lost, queue=self.queue)

    def act(self, decision: Decision) -> None:
        job = self.jobs.get(decision.job.name)
        if decision.patch is None or job is None:
            return
        after = merged(job, decision.patch)
        if decision.releases:
            assert all(read.key in self.published for run in decision.job.runs for read in run.inputs.values())
            after["metadata"]["generation"] += 1
        self.jobs[decision.job.name] = after

    def admit(self) -> None:
        """What Kueue does: start what is in a queue, also where somebody else has suspended it again."""
        for job in self.jobs.values():
            if KUEUE_QUEUE in job["metadata"].get("labels", {}):
                job["spec"]["suspend"] = False

    def run(self, stage: StageJob, index: int, fails: bool) -> bool:
        """One pod; False if there is none to run."""
        job = self.jobs.get(stage.name)
        index %= len(stage.runs)
        if job is None or job["spec"]["suspend"] or job["status"].get("conditions"):
            return False
        done, failed = job["status"].setdefault("done", set()), self.failed.setdefault(stage.name, set())
        if index not in done | failed:
            (failed if fails and stage.runs[index].key not in self.published else done).add(index)
            if index in done:
                self.published.add(stage.runs[index].key)
        job["status"]["failedIndexes"] = ",".join(map(str, sorted(failed)))
        if len(done | failed) == len(stage.runs):
            job["status"]["conditions"] = [{"type": "Failed" if failed else "Complete", "status": "True"}]
        return True

    def delete(self, stage: StageJob) -> None:
        self.jobs.pop(stage.name, None)
        self.failed.pop(stage.name, None)


@settings(max_examples=100, deadline=None)
@given(pipelines(), st.sampled_from([None, "gpus"]), st.data())
def test_random_pipelines_under_random_events(stages: list[StageJob], queue: str | None, data: st.DataObject) -> None:
    """Nothing is released too early; what can run runs; what reads a failed stage never does; and it ends."""
    world = World(stages, queue)
    seen: list[list[Decision]] = []
    events = [
        "look",
        "look",
        "act",
        "act",
        "admit",
        "run",
        "run",
        "run",
        "fail",
        "delete",
        "apply",
        "suspend",
        "publish",
    ]
    for event in data.draw(st.lists(st.sampled_from(events), max_size=40)):
        stage = data.draw(st.sampled_from(stages))
        if event == "look":
            seen.append(decide(stages, world.view(patient=data.draw(st.booleans()))))
        elif event == "act" and seen:
            world.act(data.draw(st.sampled_from(data.draw(st.sampled_from(seen)))))  # perhaps long after it was seen
        elif event == "admit":
            world.admit()
        elif event in ("run", "fail"):
            world.run(stage, data.draw(st.integers(0, 2)), fails=event == "fail")
        elif event == "delete":
            world.delete(stage)
        elif event == "apply":
            world.apply(stage)
        elif event == "suspend" and stage.name in world.jobs:
            world.jobs[stage.name]["spec"]["suspend"] = True
        elif event == "publish" and all(read.key in world.published for read in stage.runs[0].inputs.values()):
            world.published.add(stage.runs[0].key)  # by `ftjobs stage` at a desk

    for _ in range(100):  # from here on nothing more goes wrong
        decisions = decide(stages, world.view(patient=False))
        for decision in decisions:
            world.act(decision)
        world.admit()
        ran = [world.run(stage, index, fails=False) for stage in stages for index in range(3)]
        if not any(ran):
            break
    final = {one.job.short_name: one for one in decide(stages, world.view(patient=False))}
    assert not any(one.state in ACTIVE for one in final.values())
    for stage in stages:
        above = [final[need].state for need in stage.needs]
        state = final[stage.short_name].state
        if state is State.BLOCKED:
            assert set(above) & {State.FAILED, State.BLOCKED}
        elif state is State.FAILED:
            assert (
                stage.name not in world.jobs
                or world.failed[stage.name]
                or world.jobs[stage.name]["status"]["conditions"]
            )
        assert (state is State.PUBLISHED) == all(run.key in world.published for run in stage.runs)
    if final[stages[-1].short_name].state is not State.PUBLISHED:
        assert any(one.state is State.FAILED for one in final.values())
    for stage in stages:  # and looking again changes nothing
        assert final[stage.short_name].patch is None
