"""Checks across the fields of a job."""

import pytest
from pydantic import ValidationError

from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Classify, Corpus, Hypothesis, Job
from tests.helpers.messages import mentions

ADAPT = {"kind": "adapt"}
CLASSIFY = {"kind": "classify"}


def job(stages: dict[str, dict], **fields: object) -> Job:
    data = {"source": "me/pairs", "text": ["a", "b"], "label": "same"} | fields.pop("data", {})
    return Job.model_validate(
        {"name": "small", "encoder": {"model": "me/encoder"}, "data": data, "stages": stages} | fields
    )


def find_problems(stages: dict[str, dict], **fields: object) -> list[tuple[str, str]]:
    return [(".".join(map(str, path)), message) for path, message in check(job(stages, **fields))]


def assert_problem(problems: list[tuple[str, str]], path: str, *parts: str) -> None:
    """Assert that there is one problem, at `path`, whose message contains `parts` in order."""
    ((actual, message),) = problems
    assert actual == path
    assert mentions(message, *parts), message


def test_valid_job_has_no_problems():
    assert find_problems({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "adapt"}}, hypotheses=[]) == []


class TestEncoderOfAStage:
    def test_must_be_a_stage(self):
        problems = find_problems({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "adatp"}})
        assert_problem(problems, "stages.head.encoder", "`adatp`", "did you mean `adapt`")
        problems = find_problems({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "zzz"}})
        assert_problem(problems, "stages.head.encoder", "`zzz`", "adapt, head")

    @pytest.mark.parametrize("name", ["prepare", "report"])
    def test_must_not_be_an_implicit_stage(self, name):
        problems = find_problems({"head": CLASSIFY | {"encoder": name}})
        assert_problem(problems, "stages.head.encoder", f"`{name}`", "head")

    def test_may_be_a_later_stage_or_a_classifier(self):
        assert find_problems({"head": CLASSIFY | {"encoder": "other"}, "other": CLASSIFY}) == []

    def test_default_encoder_is_checked(self):
        problems = find_problems({"adapt": ADAPT}, defaults={"adapt": {"encoder": "zzz"}})
        assert_problem(problems, "stages.adapt.encoder", "`zzz`", "adapt")


class TestCycles:
    def test_stage_that_reads_itself_is_a_cycle(self):
        assert_problem(find_problems({"a": ADAPT | {"encoder": "a"}}), "stages.a.encoder", ": a -> a;")

    def test_cycle_of_two_stages(self):
        stages = {"a": ADAPT | {"encoder": "b"}, "b": ADAPT | {"encoder": "a"}}
        assert_problem(find_problems(stages), "stages.a.encoder", ": a -> b -> a;")

    def test_stages_that_lead_to_a_cycle_are_not_part_of_it(self):
        stages = {
            "head": CLASSIFY | {"encoder": "a"},
            "a": ADAPT | {"encoder": "b"},
            "b": ADAPT | {"encoder": "c"},
            "c": ADAPT | {"encoder": "a"},
            "tail": CLASSIFY | {"encoder": "b"},
        }
        assert_problem(find_problems(stages), "stages.a.encoder", ": a -> b -> c -> a;")

    def test_each_cycle_is_reported_once(self):
        stages = {name: ADAPT | {"encoder": name} for name in "ab"}
        assert [path for path, _ in find_problems(stages)] == ["stages.a.encoder", "stages.b.encoder"]

    def test_cycle_through_a_default_encoder(self):
        stages = {"a": ADAPT, "b": ADAPT | {"encoder": None}}
        problems = find_problems(stages, defaults={"adapt": {"encoder": "a"}})
        assert_problem(problems, "stages.a.encoder", ": a -> a;")

    def test_long_chain_is_not_a_cycle(self):
        chain = {"s0": ADAPT} | {f"s{i}": ADAPT | {"encoder": f"s{i - 1}"} for i in range(1, 500)}
        assert find_problems(dict(reversed(chain.items()))) == []


@pytest.mark.parametrize("name", ["prepare", "report"])
def test_reserved_stage_names(name):
    assert_problem(find_problems({name: ADAPT}), f"stages.{name}", f"`{name}`", "choose another name")


def test_fields_that_conflict_with_defaults():
    stages = {"head": CLASSIFY | {"freeze_encoder": False}, "frozen": CLASSIFY}
    defaults = {"classify": {"freeze_encoder": True, "encoder_dropout": True}}
    problems = find_problems(stages, defaults=defaults)
    assert_problem(problems, "stages.head", "encoder_dropout: true", "freeze_encoder: true")


class TestData:
    def test_repeated_text_column(self):
        assert_problem(find_problems({"a": ADAPT}, data={"text": ["q", "q"]}), "data.text", "`q`", "repeated")

    def test_label_column_must_not_be_a_text_column(self):
        assert_problem(
            find_problems({"a": ADAPT}, data={"text": "q", "label": "q"}), "data.label", "`q`", "text column"
        )

    def test_label_is_required_for_classify_stages(self):
        assert find_problems({"a": ADAPT}, data={"label": None}) == []
        problems = find_problems({"a": ADAPT, "b": CLASSIFY, "c": CLASSIFY}, data={"label": None})
        assert_problem(problems, "data", "`label` is missing", "`b`")

    def test_repeated_seed_is_rejected(self):
        assert_problem(find_problems({"a": ADAPT}, seeds=[1, 2, 1]), "seeds", "[1, 2, 1]", "remove one")


class TestIntermediateTask:
    intermediate = CLASSIFY | {"data": {"source": "me/nli", "text": "t", "label": "l"}}

    def test_valid_data_has_no_problems(self):
        assert find_problems({"nli": self.intermediate, "head": CLASSIFY | {"encoder": "nli"}}) == []

    @pytest.mark.parametrize(
        ("change", "path", "parts"),
        [
            ({"text": ["q", "q"]}, "stages.nli.data.text", ("`q`", "repeated")),
            ({"label": "t"}, "stages.nli.data.label", ("`t`", "text column")),
            ({"label": None}, "stages.nli.data", ("`label` is missing", "`nli`")),
        ],
    )
    def test_data_is_checked(self, change, path, parts):
        stages = {"nli": CLASSIFY | {"data": self.intermediate["data"] | change}, "head": CLASSIFY}
        assert_problem(find_problems(stages), path, *parts)

    def test_job_data_needs_no_label_without_other_classify_stages(self):
        assert find_problems({"a": ADAPT, "nli": self.intermediate}, data={"label": None}) == []

    def test_name_of_the_implicit_stage_is_reserved(self):
        problems = find_problems({"nli": self.intermediate, "nli-data": CLASSIFY})
        assert_problem(problems, "stages.nli-data", "`nli-data`", "data of `nli`", "choose another name")

    def test_name_of_the_implicit_stage_has_a_maximum_length(self):
        name = "n" * 39
        assert find_problems({name: self.intermediate, "head": CLASSIFY}, name="abcd") == []
        problems = find_problems({name: self.intermediate, "head": CLASSIFY}, name="abcde")
        assert_problem(problems, f"stages.{name}.data", "49 characters", "at most 48")

    def test_hypothesis_about_an_intermediate_task(self):
        problems = find_problems({"nli": self.intermediate, "head": CLASSIFY}, hypotheses=["head > nli"])
        assert_problem(problems, "hypotheses.0", "`nli`", "cannot be compared")

    def test_stage_with_the_jobs_data_is_compared(self):
        same = CLASSIFY | {"data": {"source": "me/pairs", "text": ["a", "b"], "label": "same"}}
        assert find_problems({"nli": same, "head": CLASSIFY}, hypotheses=["head > nli"]) == []

    def test_all_stages_may_be_intermediate_tasks(self):
        assert find_problems({"nli": self.intermediate}) == []


class TestCorpus:
    with_corpus = ADAPT | {"corpus": {"source": "me/corpus"}}

    def test_name_of_the_implicit_stage_is_reserved(self):
        assert find_problems({"adapt": self.with_corpus, "b": self.with_corpus}) == []
        problems = find_problems({"adapt": self.with_corpus, "adapt-corpus": CLASSIFY})
        assert_problem(problems, "stages.adapt-corpus", "`adapt-corpus`", "corpus of `adapt`", "choose another name")

    def test_name_of_the_implicit_stage_has_a_maximum_length(self):
        fits = "a" * 37
        assert find_problems({fits: self.with_corpus}, name="pipe") == []
        problems = find_problems({f"{fits}a": self.with_corpus}, name="pipe")
        assert_problem(problems, f"stages.{fits}a.corpus", "49 characters", "at most 48")

    def test_isolate_requires_packing(self):
        with pytest.raises(ValidationError, match=r"isolate: true .*unit: packed.*unit: document"):
            Corpus(source="me/corpus", unit="document", isolate=True)


class TestTypesOfLabels:
    numbers = {"label_type": "float"}
    several = {"label": ["l", "m"], "label_type": "multi"}

    @pytest.mark.parametrize(
        ("data", "metric", "known"),
        [
            (numbers, "accuracy", "mse, pearson, spearman, loss"),
            (several, "pearson", "accuracy, f1, f1_macro, loss"),
            ({}, "mse", "accuracy, f1, loss"),
        ],
    )
    def test_metric_of_another_task_is_rejected(self, data, metric, known):
        ((path, message),) = find_problems({"a": CLASSIFY | {"metric_for_best": metric}}, data=data)
        assert path == "stages.a.metric_for_best"
        assert f"`{metric}`" in message
        assert message.endswith(known)

    @pytest.mark.parametrize("field", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
    def test_setting_of_another_task_is_rejected(self, field):
        assert find_problems({"a": CLASSIFY | field}) == []
        ((path, message),) = find_problems({"a": CLASSIFY | field}, data=self.numbers)
        assert path == f"stages.a.{next(iter(field))}"
        assert "label_type: class" in message
        assert "label_type: float" in message

    def test_default_metric_follows_label_type(self):
        numeric = CLASSIFY | {"data": {"source": "me/x", "text": "t", "label": "l"} | self.numbers}
        checked_job = job({"a": CLASSIFY, "b": numeric, "c": numeric | {"metric_for_best": "pearson"}})
        assert [checked_job.stage(name).metric_for_best for name in "abc"] == ["accuracy", "mse", "pearson"]
        shared = job({"a": CLASSIFY}, data=self.numbers, defaults={"classify": {"metric_for_best": "spearman"}})
        assert shared.stage("a").metric_for_best == "spearman"

    def test_repeated_label_column_is_rejected(self):
        problems = find_problems({"a": CLASSIFY}, data={"label": ["a", "m"], "label_type": "multi"})
        assert_problem(problems, "data.label", "`a`", "text column")
        problems = find_problems({"a": CLASSIFY}, data={"label": ["m", "m"], "label_type": "multi"})
        assert_problem(problems, "data.label", "`m`", "repeated")

    def test_margin_of_squared_errors_is_unbounded(self):
        stages = {"a": CLASSIFY, "b": CLASSIFY}
        assert find_problems(stages, data=self.numbers, hypotheses=["a > b by 2.5"]) == []


class TestHypotheses:
    stages = {"adapt": ADAPT, "head": CLASSIFY, "full": CLASSIFY}

    def problem(self, text: str) -> str:
        ((path, message),) = find_problems(self.stages, hypotheses=["full > head", text])
        assert path == "hypotheses.1"
        return message

    @pytest.mark.parametrize(
        ("text", "better", "worse", "by"),
        [
            ("a > b", "a", "b", 0.0),
            ("a>b", "a", "b", 0.0),
            ("  a  >  b  ", "a", "b", 0.0),
            ("a > b by 0.02", "a", "b", 0.02),
            ("a-b > b-a by .5", "a-b", "b-a", 0.5),
            ("a > b by 0", "a", "b", 0.0),
            ("by > by by 0.1", "by", "by", 0.1),
        ],
    )
    def test_valid_forms_are_parsed(self, text, better, worse, by):
        assert Hypothesis.parse(text) == Hypothesis(better=better, worse=worse, by=by)

    @pytest.mark.parametrize(
        "text",
        ["", "head", "full >= head", "full > head > adapt", "full > head by", "full > head by -1", "full < head"],
    )
    def test_other_forms_are_rejected(self, text):
        assert mentions(self.problem(text), repr(text), "`stage > stage`", "by 0.02`")

    @pytest.mark.parametrize("margin", ["1", "2", "2.5", "9" * 400])
    def test_margin_must_be_a_fraction(self, margin):
        assert mentions(self.problem(f"full > head by {margin}"), "margin", "`by 0.02`")

    def test_stages_must_exist(self):
        assert mentions(self.problem("full > haed"), "`haed`", "mean `head`")
        assert mentions(self.problem("zzz > full"), "`zzz`", "head, full")

    def test_stages_must_be_classifiers(self):
        assert mentions(self.problem("full > adapt"), "`adapt`", "classify stage")

    def test_stages_must_differ(self):
        assert mentions(self.problem("head > head"), "'head > head'", "itself")


def test_all_problems_are_reported():
    paths = [
        path
        for path, _ in find_problems(
            {"prepare": CLASSIFY | {"encoder": "zzz"}, "a": ADAPT | {"encoder": "a"}},
            data={"label": "a", "text": ["a", "a"]},
            seeds=[1, 1],
            hypotheses=["x", "a > prepare"],
        )
    ]
    assert paths == [
        "data.text",
        "data.label",
        "seeds",
        "stages.prepare",
        "stages.prepare.encoder",
        "stages.a.encoder",
        "hypotheses.0",
        "hypotheses.1",
    ]


def test_stage_includes_defaults():
    merged = job({"head": CLASSIFY | {"epochs": 1}}, defaults={"classify": {"epochs": 2, "warmup_steps": 3}})
    assert merged.stage("head") == Classify(epochs=1, warmup_steps=3)
