"""Job states and decisions: every case by name, and random pipelines under random events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftjobs.kubernetes.reconcile import ACTIVE, Decision, JobState, Observation, State, reconcile
from ftjobs.kubernetes.stage_jobs import KUEUE_QUEUE, SUSPENDED, StageJob, stage_jobs
from ftjobs.plan import Report, StageRun
from tests.fakes.kubernetes_api import merged

RELEASE = {"spec": {"suspend": False}, "metadata": {}}


def make_stages(needs: dict[str, list[str]], seeds: dict[str, int], nodes: int = 1) -> list[StageJob]:
    """Stages by name with their inputs; a seed reads the same seed of an input, or its first seed if it has fewer."""
    runs: dict[tuple[str, int], StageRun] = {}
    for name, sources in needs.items():
        for seed in range(seeds.get(name, 1)):
            inputs = {source: runs[source, seed if seed < seeds.get(source, 1) else 0] for source in sources}
            if name == "report":
                inputs = {f"{run.stage}/{run.seed}": run for run in runs.values()}
            empty = Report(pipeline="p", stages=[], hypotheses=[], own_data={}, job={})
            runs[name, seed] = StageRun("p", name, "classify", seed, empty, f"{name}-{seed}".ljust(64, "0"), inputs)
    return stage_jobs(list(runs.values()), nodes)


#: prepare -> adapt (2 seeds) -> head (2 seeds); prepare -> plain; all -> report.
STAGES = make_stages(
    {"prepare": [], "adapt": ["prepare"], "head": ["prepare", "adapt"], "plain": ["prepare"], "report": []},
    {"adapt": 2, "head": 2},
)
BY_NAME = {stage.stage: stage for stage in STAGES}
FAILED = {"failure": "BackoffLimitExceeded: Job has reached the specified backoff limit"}


def observation(
    published: str = "", lost: str = "", absent: str = "", queue: str | None = None, **changed: dict[str, Any]
) -> Observation:
    """All Jobs suspended. `published` names stages, or seeds such as `adapt/1`; `changed` has JobState fields by stage."""
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
    return Observation(jobs, keys, {BY_NAME[name].name for name in lost.split()}, queue=queue)


def decisions(*arguments: Any, **named: Any) -> dict[str, Decision]:
    """Decisions by stage for `observation(...)`."""
    return {decision.stage.stage: decision for decision in reconcile(STAGES, observation(*arguments, **named))}


RUNNING = {"suspended": False}
COMPLETE = {"suspended": False, "complete": True}


def make_job(
    metadata: dict[str, Any] | None = None, spec: dict[str, Any] | None = None, **status: Any
) -> dict[str, Any]:
    return {"metadata": {"name": "a", **(metadata or {})}, "spec": {"completions": 9, **(spec or {})}, "status": status}


def job_state(*arguments: Any, **status: Any) -> JobState:
    state = JobState.from_json(make_job(*arguments, **status))
    assert state is not None
    return state


class TestJobState:
    def test_minimal_job_has_default_state(self) -> None:
        assert JobState.from_json({"metadata": {"name": "a"}, "spec": {"suspend": True}}) == JobState(
            "a", suspended=True
        )

    def test_conditions_count_only_with_status_true(self) -> None:
        conditions = [{"type": "Complete", "status": "False"}, {"type": "Failed", "status": "Unknown", "reason": "x"}]
        assert job_state(conditions=conditions) == JobState("a", suspended=False)
        assert job_state(conditions=[{"type": "Complete", "status": "True"}]).complete

    def test_failure_target_is_not_yet_a_failure(self) -> None:
        target = {"type": "FailureTarget", "status": "True", "reason": "BackoffLimitExceeded"}
        assert job_state(conditions=[target]).failure is None
        assert job_state(conditions=[target, {**target, "type": "Failed"}]).failure == "BackoffLimitExceeded"

    @pytest.mark.parametrize(
        ("condition", "text"),
        [
            (
                {"reason": "DeadlineExceeded", "message": "Job was active\nlonger  than"},
                "DeadlineExceeded: Job was active longer than",
            ),
            ({"message": "why"}, "why"),
            ({"reason": "", "message": None}, "Failed"),
        ],
    )
    def test_failure_has_reason_and_message_in_one_line(self, condition: dict[str, Any], text: str) -> None:
        assert job_state(conditions=[{"type": "Failed", "status": "True", **condition}]).failure == text

    @pytest.mark.parametrize(
        ("text", "indexes"),
        [("", ()), ("0", {0}), ("1,3-5,8", {1, 3, 4, 5, 8}), ("7-4000000000", {7, 8}), ("x,1-", ())],
    )
    def test_failed_indexes_are_parsed_and_bounded(self, text: str, indexes: Any) -> None:
        assert job_state(failedIndexes=text).failed_indexes == frozenset(indexes)

    def test_job_being_deleted_has_no_state(self) -> None:
        assert JobState.from_json(make_job({"deletionTimestamp": "2026-11-23T09:00:00Z"})) is None

    def test_states_are_equal_without_relevant_changes(self) -> None:
        assert job_state(active=1, ready=0) == job_state(active=2, ready=2)
        assert job_state({"annotations": {"ftjobs/suspended": "waits for a"}}) == job_state()
        assert job_state(succeeded=1) != job_state()
        assert job_state(spec={"suspend": True}) != job_state()
        assert job_state(failedIndexes="1") != job_state()

    @pytest.mark.parametrize(("generation", "was_resumed"), [(1, False), (2, True), (3, True)])
    def test_was_resumed_follows_generation(self, generation: int, was_resumed: bool) -> None:
        assert job_state({"generation": generation}, {"suspend": True}).was_resumed == was_resumed


@pytest.mark.parametrize(
    ("observed", "states"),
    [
        (observation(), "released waiting waiting waiting waiting"),
        (observation("prepare", prepare=RUNNING), "published released waiting released waiting"),
        (observation("prepare adapt/0"), "published released waiting released waiting"),
        (observation("prepare adapt"), "published published released released waiting"),
        (observation("prepare adapt head"), "published published published released waiting"),
        (observation("prepare adapt head plain"), "published published published published released"),
        (observation("prepare adapt head plain report"), "published published published published published"),
        (observation("prepare adapt head plain report", absent="prepare adapt head plain report"), "published published published published published"),
        # failures
        (observation(prepare=FAILED), "failed blocked blocked blocked blocked"),
        (observation("prepare", adapt=FAILED, plain=RUNNING), "published failed blocked released blocked"),
        (observation("prepare adapt", adapt=FAILED), "published published released released waiting"),
        (observation("prepare", adapt={"failed_indexes": frozenset({1})}), "published failing blocked released blocked"),
        (observation("prepare adapt/1", adapt={"failed_indexes": frozenset({1})}), "published released waiting released waiting"),
        (observation("prepare adapt", head=FAILED), "published published failed released blocked"),
        (observation(adapt={"failed_indexes": frozenset({1})}), "released failed blocked waiting blocked"),
        # missing Jobs
        (observation("prepare", absent="adapt"), "published absent waiting released waiting"),
        (observation("prepare", absent="adapt", lost="adapt"), "published failed blocked released blocked"),
        (observation("prepare adapt", absent="adapt", lost="adapt"), "published published released released waiting"),
        (observation(absent="prepare adapt", lost="prepare adapt"), "failed failed blocked blocked blocked"),
        # complete Jobs without artifacts
        (observation("prepare", adapt=COMPLETE), "published absent waiting released waiting"),
        (observation("prepare", adapt=COMPLETE, lost="adapt"), "published failed blocked released blocked"),
    ],
)  # fmt: skip
def test_stages_have_the_expected_states(observed: Observation, states: str) -> None:
    assert " ".join(decision.state.value for decision in reconcile(STAGES, observed)) == states


def test_stage_is_resumed_once_inputs_of_all_seeds_are_published() -> None:
    assert decisions()["prepare"].patch == RELEASE
    assert not decisions("prepare adapt/0")["head"].releases
    assert decisions("prepare adapt")["head"].patch == RELEASE


def test_running_and_ended_jobs_are_not_patched() -> None:
    assert decisions(prepare=RUNNING)["prepare"].patch is None
    assert decisions("prepare", prepare={"suspended": True, "complete": True})["prepare"].patch is None
    assert decisions(prepare={**FAILED, "suspended": True})["prepare"].patch is None


def test_published_stage_that_ran_before_is_resumed_to_complete() -> None:
    assert decisions("prepare", prepare={"was_resumed": True})["prepare"].patch == RELEASE
    assert decisions("prepare", prepare={"was_resumed": True, "complete": True})["prepare"].patch is None
    assert decisions("prepare", prepare={"was_resumed": True, "queue": "gpus"})["prepare"].patch is None


def test_published_stage_that_never_ran_stays_suspended_with_the_reason() -> None:
    assert decisions("prepare")["prepare"].patch == {
        "metadata": {"annotations": {SUSPENDED: "already published; nothing to run"}}
    }


def test_waiting_stage_is_annotated_with_missing_inputs() -> None:
    assert decisions("adapt")["head"].patch == {"metadata": {"annotations": {SUSPENDED: "waits for prepare"}}}
    assert decisions(head={"suspend_reason": "waits for prepare, adapt"})["head"].patch is None
    released = decisions("prepare adapt", head={"suspend_reason": "waits for prepare, adapt"})["head"]
    assert released.patch == {"spec": {"suspend": False}, "metadata": {"annotations": {SUSPENDED: None}}}


def test_blocked_stage_is_annotated_with_failed_inputs() -> None:
    blocked = decisions("prepare", adapt=FAILED, plain=FAILED)
    assert blocked["head"].patch == {
        "metadata": {"annotations": {SUSPENDED: f"blocked: adapt failed: {FAILED['failure']}"}}
    }
    assert blocked["report"].reason == f"adapt failed: {FAILED['failure']}; plain failed: {FAILED['failure']}"


def test_annotation_is_truncated() -> None:
    report = decisions(prepare={"failure": "x" * 300_000})["report"]
    assert report.patch is not None
    assert len(report.patch["metadata"]["annotations"][SUSPENDED]) <= 500


def test_reason_includes_stored_errors_once_per_error() -> None:
    first, second = BY_NAME["adapt"].runs
    observed = observation("prepare", adapt={"failed_indexes": frozenset({0, 1}), "suspended": False})
    errors = {first.key: "out of memory", second.key: "out of memory"}
    adapt = reconcile(STAGES, replace(observed, errors=errors))[1]
    assert adapt.reason == "no retries left for adapt seed 0, adapt seed 1; adapt seed 0, adapt seed 1: out of memory"


def test_suspended_job_with_failed_seeds_is_resumed_for_the_others() -> None:
    assert decisions("prepare", adapt={"failed_indexes": frozenset({1})})["adapt"].patch == RELEASE


def test_single_seed_jobs_are_released_and_blocked_separately() -> None:
    needs = {"prepare": [], "adapt": ["prepare"], "head": ["prepare", "adapt"], "report": []}
    stages = make_stages(needs, {"adapt": 2, "head": 2}, nodes=2)
    prepare, first, second, *heads, report = stages
    assert [stage.title for stage in (first, *heads)] == ["adapt seed 0", "head seed 0", "head seed 1"]
    jobs = {stage.name: JobState(stage.name, suspended=True) for stage in stages}
    jobs[second.name] = replace(jobs[second.name], failure="PodFailurePolicy: exit code 2")
    published = {prepare.runs[0].key, first.runs[0].key}
    results = reconcile(stages, Observation(jobs, published))
    assert [
        decision.state.value for decision in results
    ] == "published published failed released blocked blocked".split()
    assert results[3].patch == RELEASE
    assert results[4].reason == "adapt seed 1 failed: PodFailurePolicy: exit code 2"
    assert results[5].reason == results[4].reason
    assert report is results[5].stage


class TestKueue:
    def test_release_sets_queue_label_instead_of_resuming(self) -> None:
        assert decisions(queue="gpus")["prepare"].patch == {"metadata": {"labels": {KUEUE_QUEUE: "gpus"}}}
        assert decisions(queue="gpus")["prepare"].releases
        assert decisions(prepare={"requested_queue": "cpus"}, queue="gpus")["prepare"].patch == {
            "metadata": {"labels": {KUEUE_QUEUE: "cpus"}}
        }

    def test_jobs_in_a_queue_are_not_patched(self) -> None:
        for queue in (None, "gpus", "cpus"):
            assert decisions(prepare={"queue": "gpus", "suspended": True}, queue=queue)["prepare"].patch is None

    def test_running_job_is_not_put_into_a_queue(self) -> None:
        assert decisions(prepare=RUNNING, queue="gpus")["prepare"].patch is None


@st.composite
def pipelines(draw: st.DrawFn) -> list[StageJob]:
    names = [f"s{index}" for index in range(draw(st.integers(1, 6)))]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:index]), unique=True)) if index else []
        for index, name in enumerate(names)
    }
    return make_stages(
        needs | {"report": []}, {name: draw(st.integers(1, 3)) for name in names}, draw(st.integers(1, 2))
    )


class World:
    """Jobs, published artifacts, and controllers whose decisions may be outdated when they are applied."""

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

    def observe(self, *, in_grace_period: bool) -> Observation:
        jobs = {name: state for name, job in self.jobs.items() if (state := JobState.from_json(job))}
        lost = [] if in_grace_period else [stage.name for stage in self.stages if stage.name not in jobs]
        return Observation(jobs, frozenset(self.published), lost, queue=self.queue)

    def patch(self, decision: Decision) -> None:
        job = self.jobs.get(decision.stage.name)
        if decision.patch is None or job is None:
            return
        after = merged(job, decision.patch)
        if decision.releases:
            inputs = [source for run in decision.stage.runs for source in run.inputs.values()]
            assert all(source.key in self.published for source in inputs)
            after["metadata"]["generation"] += 1
        self.jobs[decision.stage.name] = after

    def admit(self) -> None:
        """Resume every Job in a queue, as Kueue does, also Jobs that were suspended again."""
        for job in self.jobs.values():
            if KUEUE_QUEUE in job["metadata"].get("labels", {}):
                job["spec"]["suspend"] = False

    def run(self, stage: StageJob, index: int, fails: bool) -> bool:
        """Run one pod; False if the Job runs none."""
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
    """No stage is released too early; stages with available inputs run; stages with failed inputs do not; the pipeline
    ends."""
    world = World(stages, queue)
    passes: list[list[Decision]] = []
    events = [
        "reconcile",
        "reconcile",
        "patch",
        "patch",
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
        if event == "reconcile":
            passes.append(reconcile(stages, world.observe(in_grace_period=data.draw(st.booleans()))))
        elif event == "patch" and passes:
            world.patch(data.draw(st.sampled_from(data.draw(st.sampled_from(passes)))))  # possibly outdated
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
        elif event == "publish" and all(source.key in world.published for source in stage.runs[0].inputs.values()):
            world.published.add(stage.runs[0].key)  # by `ftjobs stage` outside the cluster

    for _ in range(100):  # without further faults
        results = reconcile(stages, world.observe(in_grace_period=False))
        for decision in results:
            world.patch(decision)
        world.admit()
        ran = [world.run(stage, index, fails=False) for stage in stages for index in range(3)]
        if not any(ran):
            break
    final = {
        decision.stage.short_name: decision for decision in reconcile(stages, world.observe(in_grace_period=False))
    }
    assert not any(decision.state in ACTIVE for decision in final.values())
    for stage in stages:
        upstream = [final[need].state for need in stage.needs]
        state = final[stage.short_name].state
        if state is State.BLOCKED:
            assert set(upstream) & {State.FAILED, State.BLOCKED}
        elif state is State.FAILED:
            assert (
                stage.name not in world.jobs
                or world.failed[stage.name]
                or world.jobs[stage.name]["status"]["conditions"]
            )
        assert (state is State.PUBLISHED) == all(run.key in world.published for run in stage.runs)
    if final[stages[-1].short_name].state is not State.PUBLISHED:
        assert any(decision.state is State.FAILED for decision in final.values())
    for stage in stages:  # another pass changes nothing
        assert final[stage.short_name].patch is None
