import pytest
from pydantic import ValidationError

from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Classify, Corpus, Hypothesis, Job

ADAPT = {"kind": "adapt"}
CLASSIFY = {"kind": "classify"}


def job(stages: dict[str, dict], **fields: object) -> Job:
    data = {"source": "me/pairs", "text": ["a", "b"], "label": "same"} | fields.pop("data", {})
    return Job.model_validate(
        {"name": "small", "encoder": {"model": "me/encoder"}, "data": data, "stages": stages} | fields
    )


def found(stages: dict[str, dict], **fields: object) -> list[tuple[str, str]]:
    return [(".".join(map(str, path)), message) for path, message in check(job(stages, **fields))]


def test_nothing_to_say():
    assert found({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "adapt"}}, hypotheses=[]) == []


class TestEncoderOfAStage:
    def test_is_a_stage(self):
        assert found({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "adatp"}}) == [
            ("stages.head.encoder", "there is no stage `adatp`; did you mean `adapt`?")
        ]
        assert found({"adapt": ADAPT, "head": CLASSIFY | {"encoder": "zzz"}}) == [
            ("stages.head.encoder", "there is no stage `zzz`; the stages are: adapt, head")
        ]

    @pytest.mark.parametrize("name", ["prepare", "report"])
    def test_is_no_stage_that_every_pipeline_has(self, name):
        assert found({"head": CLASSIFY | {"encoder": name}}) == [
            ("stages.head.encoder", f"there is no stage `{name}`; the stages are: head")
        ]

    def test_may_be_a_later_stage_or_a_classifier(self):
        assert found({"head": CLASSIFY | {"encoder": "other"}, "other": CLASSIFY}) == []

    def test_also_where_the_default_says_it(self):
        assert found({"adapt": ADAPT}, defaults={"adapt": {"encoder": "zzz"}}) == [
            ("stages.adapt.encoder", "there is no stage `zzz`; the stages are: adapt")
        ]


class TestCycles:
    def test_a_stage_that_waits_for_itself(self):
        assert found({"a": ADAPT | {"encoder": "a"}}) == [
            ("stages.a.encoder", "the stages wait for each other: a -> a")
        ]

    def test_two_stages_that_wait_for_each_other(self):
        stages = {"a": ADAPT | {"encoder": "b"}, "b": ADAPT | {"encoder": "a"}}
        assert found(stages) == [("stages.a.encoder", "the stages wait for each other: a -> b -> a")]

    def test_who_only_waits_for_a_cycle_is_not_part_of_it(self):
        stages = {
            "head": CLASSIFY | {"encoder": "a"},
            "a": ADAPT | {"encoder": "b"},
            "b": ADAPT | {"encoder": "c"},
            "c": ADAPT | {"encoder": "a"},
            "tail": CLASSIFY | {"encoder": "b"},
        }
        assert found(stages) == [("stages.a.encoder", "the stages wait for each other: a -> b -> c -> a")]

    def test_each_cycle_is_named_once(self):
        stages = {name: ADAPT | {"encoder": name} for name in "ab"}
        assert [path for path, _ in found(stages)] == ["stages.a.encoder", "stages.b.encoder"]

    def test_the_default_closes_one(self):
        stages = {"a": ADAPT, "b": ADAPT | {"encoder": None}}
        assert found(stages, defaults={"adapt": {"encoder": "a"}}) == [
            ("stages.a.encoder", "the stages wait for each other: a -> a")
        ]

    def test_a_long_chain_is_none(self):
        chain = {"s0": ADAPT} | {f"s{i}": ADAPT | {"encoder": f"s{i - 1}"} for i in range(1, 500)}
        assert found(dict(reversed(chain.items()))) == []


@pytest.mark.parametrize("name", ["prepare", "report"])
def test_reserved_names(name):
    assert found({name: ADAPT}) == [
        (f"stages.{name}", f"every pipeline has its own `{name}` stage; choose another name")
    ]


def test_fields_that_clash_once_the_defaults_are_in():
    stages = {"head": CLASSIFY | {"freeze_encoder": False}, "frozen": CLASSIFY}
    defaults = {"classify": {"freeze_encoder": True, "encoder_dropout": True}}
    assert found(stages, defaults=defaults) == [
        ("stages.head", "encoder_dropout only has a meaning with freeze_encoder: true")
    ]


class TestData:
    def test_text_columns_differ(self):
        assert found({"a": ADAPT}, data={"text": ["q", "q"]}) == [("data.text", "column `q` stands twice")]

    def test_the_label_is_no_text(self):
        assert found({"a": ADAPT}, data={"text": "q", "label": "q"}) == [("data.label", "`q` is a text column too")]

    def test_only_jobs_that_classify_need_a_label(self):
        assert found({"a": ADAPT}, data={"label": None}) == []
        assert found({"a": ADAPT, "b": CLASSIFY, "c": CLASSIFY}, data={"label": None}) == [
            ("data", "`label` is missing; stage `b` classifies and needs the column of the class")
        ]

    def test_seeds_differ(self):
        assert found({"a": ADAPT}, seeds=[1, 2, 1]) == [
            ("seeds", "a seed stands twice in [1, 2, 1]; each seed is one repetition")
        ]


class TestDataOfItsOwn:
    own = CLASSIFY | {"data": {"source": "me/nli", "text": "t", "label": "l"}}

    def test_nothing_to_say(self):
        assert found({"nli": self.own, "head": CLASSIFY | {"encoder": "nli"}}) == []

    @pytest.mark.parametrize(
        ("change", "path", "message"),
        [
            ({"text": ["q", "q"]}, "stages.nli.data.text", "column `q` stands twice"),
            ({"label": "t"}, "stages.nli.data.label", "`t` is a text column too"),
            (
                {"label": None},
                "stages.nli.data",
                "`label` is missing; stage `nli` classifies and needs the column of the class",
            ),
        ],
    )
    def test_is_checked_as_the_jobs_is(self, change, path, message):
        stages = {"nli": CLASSIFY | {"data": self.own["data"] | change}, "head": CLASSIFY}
        assert found(stages) == [(path, message)]

    def test_alone_needs_no_label_of_the_job(self):
        assert found({"a": ADAPT, "nli": self.own}, data={"label": None}) == []

    def test_the_stage_that_brings_it_has_a_name_of_its_own(self):
        ((path, message),) = found({"nli": self.own, "nli-data": CLASSIFY})
        assert path == "stages.nli-data"
        assert message == "`nli-data` is the name of the stage that brings the data of `nli`; choose another name"

    def test_the_stage_that_brings_it_counts_for_the_length_of_names(self):
        name = "n" * 39
        assert found({name: self.own, "head": CLASSIFY}, name="abcd") == []
        ((path, message),) = found({name: self.own, "head": CLASSIFY}, name="abcde")
        assert path == f"stages.{name}.data"
        assert message.endswith("the stage that brings it, have 49 characters together, at most 48")

    def test_is_not_compared(self):
        ((path, message),) = found({"nli": self.own, "head": CLASSIFY}, hypotheses=["head > nli"])
        assert path == "hypotheses.0"
        assert message.startswith("`nli` is trained and measured on data of its own, so it cannot be compared")

    def test_that_is_the_jobs_is_compared(self):
        same = CLASSIFY | {"data": {"source": "me/pairs", "text": ["a", "b"], "label": "same"}}
        assert found({"nli": same, "head": CLASSIFY}, hypotheses=["head > nli"]) == []

    def test_of_every_stage_is_what_a_pod_may_see_of_a_job(self):
        assert found({"nli": self.own}) == []


class TestCorpus:
    own = ADAPT | {"corpus": {"source": "me/corpus"}}

    def test_the_stage_that_brings_it_has_a_name_of_its_own(self):
        assert found({"adapt": self.own, "b": self.own}) == []
        ((path, message),) = found({"adapt": self.own, "adapt-corpus": CLASSIFY})
        assert path == "stages.adapt-corpus"
        assert message == (
            "`adapt-corpus` is the name of the stage that brings the corpus of `adapt`; choose another name"
        )

    def test_that_name_counts(self):
        fits = "a" * 37
        assert found({fits: self.own}, name="pipe") == []
        ((path, message),) = found({f"{fits}a": self.own}, name="pipe")
        assert path == f"stages.{fits}a.corpus"
        assert "have 49 characters together, at most 48" in message

    def test_isolation_needs_packing(self):
        with pytest.raises(ValidationError, match="isolate only has a meaning with unit: packed"):
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
        ((path, message),) = found({"a": CLASSIFY | {"metric_for_best": metric}}, data=data)
        assert path == "stages.a.metric_for_best"
        assert f"`{metric}`" in message
        assert message.endswith(known)

    @pytest.mark.parametrize("field", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
    def test_setting_of_another_task_is_rejected(self, field):
        assert found({"a": CLASSIFY | field}) == []
        ((path, message),) = found({"a": CLASSIFY | field}, data=self.numbers)
        assert path == f"stages.a.{next(iter(field))}"
        assert "label_type: class" in message
        assert "label_type: float" in message

    def test_default_metric_follows_label_type(self):
        own = CLASSIFY | {"data": {"source": "me/x", "text": "t", "label": "l"} | self.numbers}
        made = job({"a": CLASSIFY, "b": own, "c": own | {"metric_for_best": "pearson"}})
        assert [made.stage(name).metric_for_best for name in "abc"] == ["accuracy", "mse", "pearson"]
        shared = job({"a": CLASSIFY}, data=self.numbers, defaults={"classify": {"metric_for_best": "spearman"}})
        assert shared.stage("a").metric_for_best == "spearman"

    def test_repeated_label_column_is_rejected(self):
        assert found({"a": CLASSIFY}, data={"label": ["a", "m"], "label_type": "multi"}) == [
            ("data.label", "`a` is a text column too")
        ]
        assert found({"a": CLASSIFY}, data={"label": ["m", "m"], "label_type": "multi"}) == [
            ("data.label", "column `m` stands twice")
        ]

    def test_margin_of_squared_errors_is_unbounded(self):
        stages = {"a": CLASSIFY, "b": CLASSIFY}
        assert found(stages, data=self.numbers, hypotheses=["a > b by 2.5"]) == []


class TestHypotheses:
    stages = {"adapt": ADAPT, "head": CLASSIFY, "full": CLASSIFY}

    def said(self, text: str) -> str:
        ((path, message),) = found(self.stages, hypotheses=["full > head", text])
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
    def test_are_read(self, text, better, worse, by):
        assert Hypothesis.parse(text) == Hypothesis(better=better, worse=worse, by=by)

    @pytest.mark.parametrize(
        "text",
        ["", "head", "full >= head", "full > head > adapt", "full > head by", "full > head by -1", "full < head"],
    )
    def test_have_one_form(self, text):
        assert self.said(text) == f"{text!r} is not of the form `stage > stage` or `stage > stage by 0.02`"

    @pytest.mark.parametrize("margin", ["1", "2", "2.5", "9" * 400])
    def test_a_margin_is_a_fraction(self, margin):
        assert self.said(f"full > head by {margin}").endswith(
            "has a margin of 1 or more; accuracies are fractions, so two points are `by 0.02`"
        )

    def test_name_stages(self):
        assert self.said("full > haed") == "there is no stage `haed`; did you mean `head`?"
        assert self.said("zzz > full") == "there is no stage `zzz`; the stages are: head, full"

    def test_compare_classifiers(self):
        assert self.said("full > adapt") == "`adapt` is not a classify stage, so it has no accuracy to compare"

    def test_compare_two_stages(self):
        assert self.said("head > head") == "'head > head' compares a stage with itself"


def test_everything_at_once():
    paths = [
        path
        for path, _ in found(
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


def test_a_stage_with_its_defaults():
    merged = job({"head": CLASSIFY | {"epochs": 1}}, defaults={"classify": {"epochs": 2, "warmup_steps": 3}})
    assert merged.stage("head") == Classify(epochs=1, warmup_steps=3)
