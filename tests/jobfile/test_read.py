from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Classify, Encoder, Job, Split
from ftjobs.jobfile.read import read

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.yaml"))
REFERENCE = Path(__file__).parents[2] / "jobs" / "medical-questions.yaml"
SMALL = """\
name: small
encoder: {model: me/encoder}
data:
  source: me/pairs
  text: [a, b]
  label: same
stages:
  adapt: {kind: adapt}
  head: {kind: classify, encoder: adapt}
"""
DNS_LABEL = "should be a DNS label: lower-case letters, digits and dashes, not at either end"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def job(text: str | bytes = SMALL, *overrides: str) -> Job:
    Path("job.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read(Path("job.yaml"), overrides)


def problems(text: str | bytes = SMALL, *overrides: str) -> list[str]:
    with pytest.raises(UserError) as caught:
        job(text, *overrides)
    assert caught.value.exit_code == 2
    assert all(problem.isprintable() for problem in caught.value.problems)
    return caught.value.problems


def problem(text: str | bytes = SMALL, *overrides: str) -> str:
    (only,) = problems(text, *overrides)
    return only


def small(old: str, new: str) -> str:
    """The small job with one place changed."""
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def head(fields: str) -> str:
    """The small job whose stage `head`, on line 9, has more fields."""
    return small("encoder: adapt}", f"encoder: adapt, {fields}}}")


class TestTheReferenceJob:
    """`jobs/medical-questions.yaml` is the reference experiment, field by field."""

    training = {
        "epochs": 8,
        "gradient_accumulation_steps": 1,
        "weight_decay": 0.01,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "schedule": "linear",
        "warmup_steps": 0,
        "max_length": 512,
        "mixed_precision": "auto",
    }
    adapt = Adapt(per_device_batch_size=16, learning_rate=1e-5, objective="mlm", mlm_probability=0.15, **training)
    classify = Classify(per_device_batch_size=8, learning_rate=2e-5, metric_for_best="accuracy", **training)

    def test_what_is_trained_on(self):
        reference = read(REFERENCE)
        assert reference.name == "medical-questions"
        assert reference.encoder == Encoder(model="google-bert/bert-base-cased", revision="main")
        assert reference.data.source == "curaihealth/medical_questions_pairs"
        assert reference.data.text_columns == ["question_1", "question_2"]
        assert reference.data.label == "label"
        assert reference.data.split == Split(test_fraction=0.07, seed=42)
        assert reference.seeds == [42]

    @pytest.mark.parametrize(
        ("stage", "settings"),
        [
            ("adapt", adapt),
            ("head", classify.model_copy(update={"freeze_encoder": True})),
            ("behavioural", classify),
            ("adapted-head", classify.model_copy(update={"freeze_encoder": True, "encoder": "adapt"})),
            ("adapted-behavioural", classify.model_copy(update={"encoder": "adapt"})),
        ],
    )
    def test_what_is_trained(self, stage, settings):
        assert read(REFERENCE).stage(stage) == settings

    def test_what_is_expected(self):
        reference = read(REFERENCE)
        assert list(reference.stages) == ["adapt", "head", "behavioural", "adapted-head", "adapted-behavioural"]
        assert reference.hypotheses == [
            "adapted-head > head",
            "behavioural > adapted-head",
            "adapted-behavioural > behavioural",
        ]
        assert reference.tracking.wandb is None


class TestTheFile:
    @pytest.mark.parametrize("text", ["", "# nothing\n", "~", "- name\n", "name\n", "8\n"])
    def test_is_a_mapping(self, text):
        assert problem(text) == "job.yaml: a job file is a mapping with `name`, `encoder`, `data` and `stages`"

    def test_is_utf_8(self):
        assert (
            problem(SMALL.encode() + b"# caf\xe9")
            == f"job.yaml: byte {len(SMALL) + 5} is not UTF-8; save the job file as UTF-8"
        )
        assert "is not UTF-8" in problem(SMALL.encode("utf-16"))

    def test_may_have_a_byte_order_mark_and_any_line_ends(self):
        assert job(b"\xef\xbb\xbf" + SMALL.encode()) == job(SMALL) == job(SMALL.replace("\n", "\r\n"))

    def test_has_to_be_there(self):
        with pytest.raises(UserError, match=r"^nowhere\.yaml: cannot read the job file: No such file"):
            read(Path("nowhere.yaml"))
        with pytest.raises(UserError, match=r"^\.: cannot read the job file: Is a directory"):
            read(Path())

    def test_what_is_not_yaml_is_the_only_problem(self):
        assert problem(SMALL + "x: [").startswith("job.yaml:10: not valid YAML: ")

    def test_several_problems_come_at_once_in_the_order_of_the_file(self):
        text = (
            small("name: small", "name: Small")
            .replace("label: same", "lable: same")
            .replace("kind: adapt}", 'kind: adapt, epochs: "8", learning_rate: 0}')
            + "seeds: [1, -1, 2.0]\n"
        )
        assert problems(text) == [
            f"job.yaml:1: name: {DNS_LABEL}, not 'Small'",
            "job.yaml:6: data.lable: unknown key; did you mean `label`?",
            "job.yaml:8: stages.adapt.epochs: should be a whole number, not '8'",
            "job.yaml:8: stages.adapt.learning_rate: should be greater than 0, not 0",
            "job.yaml:10: seeds.1: should be greater than or equal to 0, not -1",
            "job.yaml:10: seeds.2: should be a whole number, not 2.0",
        ]


class TestUnknownKeys:
    def test_a_close_one_is_suggested(self):
        assert problem(SMALL + "stage: 1\n") == "job.yaml:10: stage: unknown key; did you mean `stages`?"
        assert problem(head("epoch: 3")) == "job.yaml:9: stages.head.epoch: unknown key; did you mean `epochs`?"
        assert problem(small("label: same", "label: same\n  split: {test_fracton: 0.1}")) == (
            "job.yaml:7: data.split.test_fracton: unknown key; did you mean `test_fraction`?"
        )
        assert problem(SMALL + "defaults: {adapt: {epoch: 1}}\n") == (
            "job.yaml:10: defaults.adapt.epoch: unknown key; did you mean `epochs`?"
        )

    def test_else_all_are_listed(self):
        assert problem(SMALL + "zzz: 1\n") == (
            "job.yaml:10: zzz: unknown key; "
            "known here: data, defaults, encoder, hypotheses, name, seeds, stages, tracking"
        )
        assert problem(SMALL + "defaults: {prepare: {}}\n").endswith("unknown key; known here: adapt, classify")

    def test_a_key_of_the_other_kind_of_stage(self):
        found = problem(small("kind: adapt}", "kind: adapt, freeze_encoder: true}"))
        assert found.startswith(
            "job.yaml:8: stages.adapt.freeze_encoder: no key of a stage of kind `adapt`; known here: adam_beta1, "
        )
        assert "freeze_encoder" not in found.partition("known here")[2]

    def test_keys_that_would_break_the_line_are_escaped(self):
        assert problem(SMALL + '"a\\nb\\e[31m\\u2028": 1\n').startswith(
            "job.yaml:10: a\\nb\\x1b[31m\\u2028: unknown key"
        )


class TestTypesAreStrict:
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ('epochs: "8"', "epochs: should be a whole number, not '8'"),
            ("epochs: true", "epochs: should be a whole number, not True"),
            ("epochs: 8.0", "epochs: should be a whole number, not 8.0"),
            ("epochs: 1e1", "epochs: should be a whole number, not 10.0"),
            ("epochs:", "epochs: should be a whole number, not None"),
            ("epochs: [8]", "epochs: should be a whole number, not [8]"),
            ("epochs: {n: 8}", "epochs: should be a whole number, not {'n': 8}"),
            ("freeze_encoder: yes", "freeze_encoder: should be true or false, not 'yes'"),
            ("freeze_encoder: 1", "freeze_encoder: should be true or false, not 1"),
            ('freeze_encoder: "true"', "freeze_encoder: should be true or false, not 'true'"),
            ('learning_rate: "2e-5"', "learning_rate: should be a number, not '2e-5'"),
            ("learning_rate: true", "learning_rate: should be a number, not True"),
            ("learning_rate: .inf", "learning_rate: should be a number, not '.inf'"),
            ("learning_rate: 1e999", "learning_rate: should be a finite number, not inf"),
            ("schedule: 1", "schedule: should be 'linear', 'cosine' or 'constant', not 1"),
            ("mixed_precision: no", None),
            ("mixed_precision: false", "mixed_precision: should be 'auto', 'no', 'bf16' or 'fp16', not False"),
            ("epochs: 0", "epochs: should be greater than or equal to 1, not 0"),
            ("learning_rate: -1", "learning_rate: should be greater than 0, not -1"),
            ("adam_beta2: 1", "adam_beta2: should be less than 1, not 1"),
        ],
    )
    def test_of_a_stage(self, fields, message):
        if message is None:
            assert job(head(fields))
        else:
            assert problem(head(fields)) == f"job.yaml:9: stages.head.{message}"

    @pytest.mark.parametrize("number", ["2e-5", "2.0e-5", "2E-5", "0.00002", "+2e-05"])
    def test_a_number_may_be_written_as_people_write_it(self, number):
        assert job(head(f"learning_rate: {number}")).stage("head").learning_rate == 2e-5

    def test_a_whole_number_is_a_number(self):
        assert job(head("weight_decay: 0")).stage("head").weight_decay == 0.0

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("{model: me/encoder}", "me/encoder", "2: encoder: should be a mapping (`key: value`), not 'me/encoder'"),
            ("{model: me/encoder}", "{model: 3}", "2: encoder.model: should be text, not 3"),
            ("{model: me/encoder}", '{model: ""}', "2: encoder.model: should have at least 1 character, not ''"),
            ("[a, b]", "3", "5: data.text: should be a list or text, not 3"),
            ("[a, b]", "[a, 3]", "5: data.text.1: should be text, not 3"),
            ("[a, b]", "[a, b, c]", "5: data.text: should have at most 2 items, not 3"),
            ("[a, b]", "[]", "5: data.text: should not be empty"),
            ("me/pairs", "3", "4: data.source: should be text or a mapping (`key: value`), not 3"),
            ("me/pairs", "{train: 3}", "4: data.source.train: should be text, not 3"),
            ("me/pairs", "{tran: a}", "4: data.source.tran: should be 'train', 'validation' or 'test', not 'tran'"),
            ("{kind: adapt}", "", "8: stages.adapt: should be a mapping (`key: value`), not None"),
            ("{kind: adapt}", "{}", "8: stages.adapt: needs `kind: adapt` or `kind: classify`"),
            ("{kind: adapt}", "{kind: x}", "8: stages.adapt: needs `kind: adapt` or `kind: classify`, not 'x'"),
            ("{kind: adapt}", "{kind: [x]}", "8: stages.adapt: needs `kind: adapt` or `kind: classify`, not ['x']"),
            ("name: small", "seeds: []\nname: small", "1: seeds: should not be empty"),
            ("name: small", "seeds: 3\nname: small", "1: seeds: should be a list, not 3"),
            ("name: small", "seeds: [4294967296]\nname: s", "1: seeds.0: should be less than 4294967296, not 4294967296"),
        ],
    )  # fmt: skip
    def test_elsewhere(self, old, new, message):
        assert problem(small(old, new)) == f"job.yaml:{message}"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("blanced", ": should be 'balanced', not 'blanced'"),
            ("{}", ": should not be empty"),
            ("{no: 1, 'yes': -2}", ".yes: should be greater than 0, not -2"),
        ],
    )
    def test_of_a_word_or_a_mapping_the_one_that_was_meant(self, value, message):
        assert problem(head(f"class_weights: {value}")) == f"job.yaml:9: stages.head.class_weights{message}"

    def test_a_long_value_is_cut(self):
        assert len(problem(head(f"epochs: {'x' * 10_000}"))) < 200

    def test_no_stage_at_all(self):
        assert problem(SMALL.partition("stages:")[0] + "stages: {}\n") == "job.yaml:7: stages: should not be empty"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("name: small\n", "1: name"),
        ("encoder: {model: me/encoder}\n", "1: encoder"),
        ("  source: me/pairs\n", "3: data.source"),
        ("  text: [a, b]\n", "3: data.text"),
        ("  label: same\n", "3: data"),
    ],
)
def test_what_is_missing_is_named_where_it_belongs(line, place):
    found = problem(small(line, ""))
    assert found.startswith(f"job.yaml:{place}: ")
    assert "is missing" in found


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a.b", "ä", "", "a b", '"a\\n"'])
def test_names_are_dns_labels(name):
    written = name or '""'
    for text in (small("name: small", f"name: {written}"), small("  adapt: {", f"  {written}: {{")):
        found = problems(text)[0]
        assert DNS_LABEL in found or (name == "-a" and "not valid YAML" in found)


def test_a_name_has_at_most_40_characters():
    assert job(small("name: small", f"name: {'a' * 40}"))
    assert "should have at most 40 characters" in problem(small("name: small", f"name: {'a' * 41}"))


class TestEncoder:
    @pytest.mark.parametrize("encoder", ["{}", "{revision: main}", "{model: me/encoder, scratch: {}}", "{model:}"])
    def test_is_a_model_or_made_from_scratch(self, encoder):
        assert problem(small("{model: me/encoder}", encoder)) == (
            "job.yaml:2: encoder: needs exactly one of `model` (hub id or folder) and `scratch` (made on the spot)"
        )

    def test_from_scratch_has_defaults(self):
        scratch = job(small("{model: me/encoder}", "{scratch: {}}")).encoder.scratch
        assert scratch is not None
        assert (scratch.hidden_size, scratch.num_hidden_layers, scratch.num_attention_heads) == (128, 2, 2)

    def test_heads_divide_the_width(self):
        scratch = "{scratch: {hidden_size: 10, num_attention_heads: 4}}"
        assert problem(small("{model: me/encoder}", scratch)) == (
            "job.yaml:2: encoder.scratch: hidden_size 10 is not a multiple of num_attention_heads 4"
        )


class TestDefaults:
    text = SMALL + "defaults:\n  adapt: {epochs: 5, encoder:}\n  classify: {epochs: 7, freeze_encoder: true}\n"

    def test_are_merged_by_kind(self):
        assert job(self.text).stage("adapt").epochs == 5
        assert job(self.text).stage("head") == Classify(epochs=7, freeze_encoder=True, encoder="adapt")

    def test_a_stage_wins_even_with_what_is_the_default_anyway(self):
        overridden = job(self.text, "stages.head.freeze_encoder=false", "stages.adapt.epochs=3")
        assert overridden.stage("head") == Classify(epochs=7, encoder="adapt")
        assert overridden.stage("adapt").epochs == 3

    def test_a_stage_may_undo_the_default_encoder(self):
        text = SMALL.replace("{kind: classify, encoder: adapt}", "{kind: classify, encoder: null}")
        found = job(text + "defaults: {classify: {encoder: adapt}}\n")
        assert found.stage("head").encoder is None
        assert job(SMALL + "defaults: {classify: {encoder: adapt}}\n").stage_encoder("head") == "adapt"

    def test_are_checked_as_strictly(self):
        assert problem(SMALL + "defaults: {adapt: {epochs: true}}\n") == (
            "job.yaml:10: defaults.adapt.epochs: should be a whole number, not True"
        )
        assert problem(SMALL + "defaults: {adapt: {kind: classify}}\n") == (
            "job.yaml:10: defaults.adapt.kind: should be 'adapt', not 'classify'"
        )


class TestSet:
    def test_replaces_one_field(self):
        assert job(SMALL, "stages.head.epochs=9").stage("head") == Classify(epochs=9, encoder="adapt")
        assert job(SMALL, "seeds=[1, 2]").seeds == [1, 2]
        assert job(SMALL, "data.split={test_fraction: 0.5}").data.split.test_fraction == 0.5

    def test_makes_what_is_on_the_way(self):
        found = job(SMALL, "tracking.wandb.project=mine", "defaults.adapt.epochs=4", "stages.new.kind=classify")
        assert found.tracking.wandb is not None
        assert found.tracking.wandb.project == "mine"
        assert found.stage("adapt").epochs == 4
        assert found.stage("new") == Classify()

    def test_the_last_one_wins(self):
        assert job(SMALL, "name=a", "name=b").name == "b"
        assert problem(SMALL, "name=b", "name=C") == f"--set name=C: {DNS_LABEL}, not 'C'"

    def test_values_are_yaml(self):
        assert job(SMALL, "stages.head.learning_rate=2e-5").stage("head").learning_rate == 2e-5
        assert job(SMALL, "stages.head.encoder=null").stage("head").encoder is None
        assert job(SMALL, "data.label=a=b").data.label == "a=b"

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ('stages.head.epochs="9"', "should be a whole number, not '9'"),
            ("stages.head.epochs=true", "should be a whole number, not True"),
            ("stages.head.epochs=", "should be a whole number, not None"),
            ("stages.head.epoch=9", "unknown key; did you mean `epochs`?"),
            ("stages.head={kind: adapt, epochs: x}", "stages.head.epochs: should be a whole number, not 'x'"),
            ("stages.haed.epochs=9", "stages.haed: needs `kind: adapt` or `kind: classify`"),
            ("stages.head.encoder=adatp", "there is no stage `adatp`; did you mean `adapt`?"),
            ("encoder={}", "needs exactly one of `model` (hub id or folder) and `scratch` (made on the spot)"),
            ("seeds=[1, 2", "not valid YAML: expected ',' or ']', but got '<stream end>'"),
            ("name=*x", "not valid YAML: anchors and aliases are not supported; write it out"),
            ("seeds.0=1", "seeds: should be a list, not {'0': 1}"),
            ("data.text.0=c", "`data.text` has no fields; set it as a whole"),
            ("name.first=a", "`name` has no fields; set it as a whole"),
            ("stages.head.epochs", "is not of the form a.b.c=value"),
            ("=3", "is not of the form a.b.c=value"),
            ("stages..epochs=3", "is not of the form a.b.c=value"),
        ],
    )
    def test_is_validated_alike_and_named_as_the_place(self, override, message):
        assert problem(SMALL, "name=other", override) == f"--set {override}: {message}"

    def test_the_rest_of_the_file_is_still_named_by_line(self):
        assert problems(head("epochs: x"), "stages.adapt.epochs=y") == [
            "--set stages.adapt.epochs=y: should be a whole number, not 'y'",
            "job.yaml:9: stages.head.epochs: should be a whole number, not 'x'",
        ]


class TestPaths:
    """Paths in a job file are relative to it, paths given with --set to the current directory."""

    @pytest.fixture(autouse=True)
    def jobs(self, here):
        (here / "jobs").mkdir()

    def source(self, source: str, *overrides: str) -> object:
        Path("jobs/job.yaml").write_text(small("me/pairs", source))
        return read(Path("jobs/job.yaml"), overrides).data.source

    def model(self, model: str, *overrides: str) -> str | None:
        Path("jobs/job.yaml").write_text(small("me/encoder", model))
        return read(Path("jobs/job.yaml"), overrides).encoder.model

    @pytest.mark.parametrize("source", ["a.csv", "./a", "../a", "b/*.csv", "b/a.jsonl.gz"])
    def test_what_is_written_as_a_path(self, here, source):
        assert self.source(source) == str(here / "jobs" / source)

    def test_what_is_there(self, here):
        assert self.source("me/pairs") == "me/pairs"
        (here / "jobs" / "me" / "pairs").mkdir(parents=True)
        assert self.source("me/pairs") == str(here / "jobs/me/pairs")
        assert self.model("me/pairs") == str(here / "jobs/me/pairs")

    def test_what_is_there_only_in_the_current_directory_is_not_meant(self, here):
        (here / "me" / "pairs").mkdir(parents=True)
        Path("jobs/job.yaml").write_text(SMALL)
        assert self.source("me/pairs") == "me/pairs"

    @pytest.mark.parametrize("model", ["./encoder", "../encoder"])
    def test_a_missing_folder_never_reads_as_a_hub_id(self, here, model, monkeypatch):
        assert self.model(model) == str(here / "jobs" / model)
        monkeypatch.chdir("jobs")
        found = read(Path("job.yaml")).encoder.model
        assert found is not None
        assert found.startswith("/")

    def test_each_split_of_its_own(self, here):
        found = self.source("{train: a.csv, test: me/test}")
        assert found == {"train": str(here / "jobs/a.csv"), "test": "me/test"}

    @pytest.mark.parametrize("source", ["/data/a.csv", "~/a.csv", "s3://bucket/a.csv", "https://host/a.csv"])
    def test_absolute_ones_and_urls_stay(self, source):
        assert self.source(source) == source

    def test_from_the_command_line(self):
        assert self.source("a.csv", "data.source=./b.csv") == "./b.csv"
        assert self.model("./a", "encoder.model=models/b") == "models/b"

    def test_a_glob_below_a_folder_with_brackets_in_its_name(self, here):
        folder = here / "jobs[1]"
        folder.mkdir()
        (folder / "job.yaml").write_text(small("me/pairs", '"*.csv"'))
        assert read(folder / "job.yaml").data.source == f"{here}/jobs[[]1]/*.csv"

    @pytest.mark.parametrize("source", ["x" * 5000, '"a\\0b"', '"./a\\0b"'])
    def test_what_no_file_can_be_called(self, source):
        assert self.source(source)


class TestTheSchema:
    """`ftjobs schema`: what editors check must agree with what we check."""

    validator = Draft202012Validator(Job.model_json_schema())

    def faults(self, data: Any) -> list[str]:
        return [error.json_path for error in self.validator.iter_errors(data)]

    def test_is_a_schema(self):
        Draft202012Validator.check_schema(Job.model_json_schema())

    @pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
    def test_accepts_the_job_files_we_ship(self, path):
        assert read(path)
        assert self.faults(yaml.safe_load(path.read_text())) == []

    @pytest.mark.parametrize("text", [SMALL + "zzz: 1\n", small("name: small", "name: A"), head("epochs: '8'")])
    def test_refuses_what_we_refuse(self, text):
        assert problems(text)
        assert self.faults(yaml.safe_load(text))

    def test_says_what_each_field_is_for(self):
        fields = [
            (name, field)
            for model in (Job, *Job.model_json_schema()["$defs"].values())
            for name, field in (model if isinstance(model, dict) else model.model_json_schema())["properties"].items()
        ]
        without = {name for name, field in fields if "description" not in field}
        assert without <= {"kind", "adapt", "classify", "project", "entity", "wandb"}
