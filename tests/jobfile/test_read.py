"""Reading job files: validation, overrides, paths, and the JSON schema."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Adapt, Classify, Encoder, Job, Split
from ftjobs.jobfile.read import read
from tests.helpers.messages import mentions

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
    """Return the small job with one replacement."""
    assert SMALL.count(old) == 1
    return SMALL.replace(old, new)


def head(fields: str) -> str:
    """Return the small job with additional fields of stage `head`, on line 9."""
    return small("encoder: adapt}", f"encoder: adapt, {fields}}}")


class TestReferenceJob:
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

    def test_data_of_the_reference_job(self):
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
    def test_stages_of_the_reference_job(self, stage, settings):
        assert read(REFERENCE).stage(stage) == settings

    def test_hypotheses_of_the_reference_job(self):
        reference = read(REFERENCE)
        assert list(reference.stages) == ["adapt", "head", "behavioural", "adapted-head", "adapted-behavioural"]
        assert reference.hypotheses == [
            "adapted-head > head",
            "behavioural > adapted-head",
            "adapted-behavioural > behavioural",
        ]
        assert reference.tracking.wandb is None


class TestFile:
    @pytest.mark.parametrize("text", ["", "# nothing\n", "~", "- name\n", "name\n", "8\n"])
    def test_must_be_a_mapping(self, text):
        assert mentions(problem(text), "job.yaml: ", "mapping", "`name`", "`encoder`", "`data`", "`stages`")

    def test_must_be_utf8(self):
        assert mentions(problem(SMALL.encode() + b"# caf\xe9"), f"job.yaml: byte {len(SMALL) + 5} is not UTF-8", "save")
        assert "is not UTF-8" in problem(SMALL.encode("utf-16"))

    def test_may_have_a_byte_order_mark_and_any_line_ends(self):
        assert job(b"\xef\xbb\xbf" + SMALL.encode()) == job(SMALL) == job(SMALL.replace("\n", "\r\n"))

    def test_must_be_readable(self):
        with pytest.raises(UserError, match=r"^nowhere\.yaml: .*No such file"):
            read(Path("nowhere.yaml"))
        with pytest.raises(UserError, match=r"^\.: .*Is a directory"):
            read(Path())

    def test_invalid_yaml_is_the_only_problem(self):
        assert problem(SMALL + "x: [").startswith("job.yaml:10: not valid")

    def test_all_problems_are_reported_in_the_order_of_the_file(self):
        text = (
            small("name: small", "name: Small")
            .replace("label: same", "lable: same")
            .replace("kind: adapt}", 'kind: adapt, epochs: "8", learning_rate: 0}')
            + "seeds: [1, -1, 2.0]\n"
        )
        expected = [
            ("job.yaml:1: name: ", DNS_LABEL, "not 'Small'"),
            ("job.yaml:6: data.lable: ", "mean `label`?"),
            ("job.yaml:8: stages.adapt.epochs: ", "whole number", "not '8'"),
            ("job.yaml:8: stages.adapt.learning_rate: ", "greater than 0", "not 0"),
            ("job.yaml:10: seeds.1: ", "equal to 0", "not -1"),
            ("job.yaml:10: seeds.2: ", "whole number", "not 2.0"),
        ]
        messages = problems(text)
        assert len(messages) == len(expected)
        for message, (place, *parts) in zip(messages, expected, strict=True):
            assert message.startswith(place)
            assert mentions(message, *parts)


class TestUnknownKeys:
    def test_similar_key_is_suggested(self):
        def suggests(text, place, key):
            message = problem(text)
            return message.startswith(f"{place}: ") and message.endswith(f"mean `{key}`?")

        assert suggests(SMALL + "stage: 1\n", "job.yaml:10: stage", "stages")
        assert suggests(head("epoch: 3"), "job.yaml:9: stages.head.epoch", "epochs")
        split = small("label: same", "label: same\n  split: {test_fracton: 0.1}")
        assert suggests(split, "job.yaml:7: data.split.test_fracton", "test_fraction")
        assert suggests(SMALL + "defaults: {adapt: {epoch: 1}}\n", "job.yaml:10: defaults.adapt.epoch", "epochs")

    def test_known_keys_are_listed(self):
        known = "data, defaults, encoder, hypotheses, name, seeds, stages, tracking"
        assert mentions(problem(SMALL + "zzz: 1\n"), "job.yaml:10: zzz: ", "unknown key", f": {known}")
        assert mentions(
            problem(SMALL + "defaults: {prepare: {}}\n"), "defaults.prepare: ", "unknown key", ": adapt, classify"
        )

    def test_key_of_another_kind_of_stage(self):
        error = problem(small("kind: adapt}", "kind: adapt, freeze_encoder: true}"))
        assert mentions(error, "job.yaml:8: stages.adapt.freeze_encoder: ", "`kind: adapt`", ": adam_beta1, ")
        assert "freeze_encoder" not in error.partition("`kind: adapt`")[2]

    def test_unprintable_characters_of_keys_are_escaped(self):
        assert mentions(
            problem(SMALL + '"a\\nb\\e[31m\\u2028": 1\n'), "job.yaml:10: a\\nb\\x1b[31m\\u2028: ", "unknown key"
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
    def test_field_of_a_stage(self, fields, message):
        if message is None:
            assert job(head(fields))
        else:
            assert problem(head(fields)) == f"job.yaml:9: stages.head.{message}"

    @pytest.mark.parametrize("number", ["2e-5", "2.0e-5", "2E-5", "0.00002", "+2e-05"])
    def test_notations_of_a_number(self, number):
        assert job(head(f"learning_rate: {number}")).stage("head").learning_rate == 2e-5

    def test_whole_number_is_accepted_as_a_number(self):
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
            ("{kind: adapt}", "{}", "8: stages.adapt: requires `kind: adapt` or `kind: classify`"),
            ("{kind: adapt}", "{kind: x}", "8: stages.adapt: requires `kind: adapt` or `kind: classify`, not 'x'"),
            ("{kind: adapt}", "{kind: [x]}", "8: stages.adapt: requires `kind: adapt` or `kind: classify`, not ['x']"),
            ("name: small", "seeds: []\nname: small", "1: seeds: should not be empty"),
            ("name: small", "seeds: 3\nname: small", "1: seeds: should be a list, not 3"),
            ("name: small", "seeds: [4294967296]\nname: s", "1: seeds.0: should be less than 4294967296, not 4294967296"),
        ],
    )  # fmt: skip
    def test_other_fields_are_reported_with_place_and_value(self, old, new, message):
        assert problem(small(old, new)) == f"job.yaml:{message}"

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            ("blanced", ": should be 'balanced', not 'blanced'"),
            ("{}", ": should not be empty"),
            ("{no: 1, 'yes': -2}", ".yes: should be greater than 0, not -2"),
        ],
    )
    def test_problem_is_about_the_matching_alternative(self, value, message):
        assert problem(head(f"class_weights: {value}")) == f"job.yaml:9: stages.head.class_weights{message}"

    def test_long_value_is_shortened(self):
        assert len(problem(head(f"epochs: {'x' * 10_000}"))) < 200

    def test_job_without_stages(self):
        assert mentions(problem(SMALL.partition("stages:")[0] + "stages: {}\n"), "job.yaml:7: stages: ", "empty")


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
def test_missing_field_is_reported_at_its_parent(line, place):
    error = problem(small(line, ""))
    assert error.startswith(f"job.yaml:{place}: ")
    assert "is missing" in error


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a.b", "ä", "", "a b", '"a\\n"'])
def test_names_must_be_dns_labels(name):
    written = name or '""'
    for text in (small("name: small", f"name: {written}"), small("  adapt: {", f"  {written}: {{")):
        error = problems(text)[0]
        assert DNS_LABEL in error or (name == "-a" and "not valid YAML" in error)


def test_name_has_at_most_40_characters():
    assert job(small("name: small", f"name: {'a' * 40}"))
    assert "at most 40" in problem(small("name: small", f"name: {'a' * 41}"))


class TestEncoder:
    @pytest.mark.parametrize("encoder", ["{}", "{revision: main}", "{model: me/encoder, scratch: {}}", "{model:}"])
    def test_requires_either_model_or_scratch(self, encoder):
        assert mentions(
            problem(small("{model: me/encoder}", encoder)),
            "job.yaml:2: encoder: ",
            "`model`",
            "`scratch`",
        )

    def test_from_scratch_has_defaults(self):
        scratch = job(small("{model: me/encoder}", "{scratch: {}}")).encoder.scratch
        assert scratch is not None
        assert (scratch.hidden_size, scratch.num_hidden_layers, scratch.num_attention_heads) == (128, 2, 2)

    def test_hidden_size_is_a_multiple_of_heads(self):
        scratch = "{scratch: {hidden_size: 10, num_attention_heads: 4}}"
        assert mentions(
            problem(small("{model: me/encoder}", scratch)),
            *("job.yaml:2: encoder.scratch: ", "hidden_size 10", "num_attention_heads 4"),
        )


class TestDefaults:
    text = SMALL + "defaults:\n  adapt: {epochs: 5, encoder:}\n  classify: {epochs: 7, freeze_encoder: true}\n"

    def test_defaults_are_merged_by_kind(self):
        assert job(self.text).stage("adapt").epochs == 5
        assert job(self.text).stage("head") == Classify(epochs=7, freeze_encoder=True, encoder="adapt")

    def test_stage_overrides_defaults_with_a_default_value(self):
        overridden = job(self.text, "stages.head.freeze_encoder=false", "stages.adapt.epochs=3")
        assert overridden.stage("head") == Classify(epochs=7, encoder="adapt")
        assert overridden.stage("adapt").epochs == 3

    def test_stage_may_override_the_default_encoder_with_null(self):
        text = SMALL.replace("{kind: classify, encoder: adapt}", "{kind: classify, encoder: null}")
        read_job = job(text + "defaults: {classify: {encoder: adapt}}\n")
        assert read_job.stage("head").encoder is None
        assert job(SMALL + "defaults: {classify: {encoder: adapt}}\n").stage_encoder("head") == "adapt"

    def test_defaults_are_validated(self):
        epochs = problem(SMALL + "defaults: {adapt: {epochs: true}}\n")
        assert mentions(epochs, "job.yaml:10: defaults.adapt.epochs: ", "whole number", "not True")
        kind = problem(SMALL + "defaults: {adapt: {kind: classify}}\n")
        assert mentions(kind, "job.yaml:10: defaults.adapt.kind: ", "'adapt'", "not 'classify'")


class TestSet:
    def test_override_replaces_one_field(self):
        assert job(SMALL, "stages.head.epochs=9").stage("head") == Classify(epochs=9, encoder="adapt")
        assert job(SMALL, "seeds=[1, 2]").seeds == [1, 2]
        assert job(SMALL, "data.split={test_fraction: 0.5}").data.split.test_fraction == 0.5

    def test_creates_missing_parents(self):
        read_job = job(SMALL, "tracking.wandb.project=mine", "defaults.adapt.epochs=4", "stages.new.kind=classify")
        assert read_job.tracking.wandb is not None
        assert read_job.tracking.wandb.project == "mine"
        assert read_job.stage("adapt").epochs == 4
        assert read_job.stage("new") == Classify()

    def test_last_override_of_a_field_wins(self):
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
            ("stages.haed.epochs=9", "stages.haed: requires `kind: adapt` or `kind: classify`"),
            ("stages.head.encoder=adatp", "there is no stage `adatp`; did you mean `adapt`?"),
            ("encoder={}", "requires exactly one of `model` (hub id or folder) and `scratch` (a new encoder)"),
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
    def test_override_is_validated_and_reported_as_the_place(self, override, message):
        assert problem(SMALL, "name=other", override) == f"--set {override}: {message}"

    def test_other_values_are_reported_by_line(self):
        overridden, written = problems(head("epochs: x"), "stages.adapt.epochs=y")
        assert mentions(overridden, "--set stages.adapt.epochs=y: ", "whole number", "'y'")
        assert mentions(written, "job.yaml:9: stages.head.epochs: ", "whole number", "'x'")


class TestPaths:
    """Paths in a job file are relative to it, paths in `--set` to the current directory."""

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
    def test_value_written_as_a_path_is_resolved(self, here, source):
        assert self.source(source) == str(here / "jobs" / source)

    def test_existing_path_is_resolved(self, here):
        assert self.source("me/pairs") == "me/pairs"
        (here / "jobs" / "me" / "pairs").mkdir(parents=True)
        assert self.source("me/pairs") == str(here / "jobs/me/pairs")
        assert self.model("me/pairs") == str(here / "jobs/me/pairs")

    def test_path_in_the_current_directory_only_is_not_resolved(self, here):
        (here / "me" / "pairs").mkdir(parents=True)
        Path("jobs/job.yaml").write_text(SMALL)
        assert self.source("me/pairs") == "me/pairs"

    @pytest.mark.parametrize("model", ["./encoder", "../encoder"])
    def test_missing_folder_is_not_read_as_a_hub_id(self, here, model, monkeypatch):
        assert self.model(model) == str(here / "jobs" / model)
        monkeypatch.chdir("jobs")
        encoder = read(Path("job.yaml")).encoder.model
        assert encoder is not None
        assert encoder.startswith("/")

    def test_source_by_split_is_resolved(self, here):
        source = self.source("{train: a.csv, test: me/test}")
        assert source == {"train": str(here / "jobs/a.csv"), "test": "me/test"}

    @pytest.mark.parametrize("source", ["/data/a.csv", "~/a.csv", "s3://bucket/a.csv", "https://host/a.csv"])
    def test_absolute_paths_and_urls_are_unchanged(self, source):
        assert self.source(source) == source

    def test_override_is_relative_to_the_current_directory(self):
        assert self.source("a.csv", "data.source=./b.csv") == "./b.csv"
        assert self.model("./a", "encoder.model=models/b") == "models/b"

    def test_glob_in_a_folder_with_brackets_in_its_name(self, here):
        folder = here / "jobs[1]"
        folder.mkdir()
        (folder / "job.yaml").write_text(small("me/pairs", '"*.csv"'))
        assert read(folder / "job.yaml").data.source == f"{here}/jobs[[]1]/*.csv"

    @pytest.mark.parametrize("source", ["x" * 5000, '"a\\0b"', '"./a\\0b"'])
    def test_invalid_file_names_are_unchanged(self, source):
        assert self.source(source)


class TestSchema:
    """`ftjobs schema` agrees with the validation of job files."""

    validator = Draft202012Validator(Job.model_json_schema())

    def faults(self, data: Any) -> list[str]:
        return [error.json_path for error in self.validator.iter_errors(data)]

    def test_schema_is_valid(self):
        Draft202012Validator.check_schema(Job.model_json_schema())

    @pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
    def test_schema_accepts_shipped_job_files(self, path):
        assert read(path)
        assert self.faults(yaml.safe_load(path.read_text())) == []

    @pytest.mark.parametrize("text", [SMALL + "zzz: 1\n", small("name: small", "name: A"), head("epochs: '8'")])
    def test_schema_rejects_invalid_jobs(self, text):
        assert problems(text)
        assert self.faults(yaml.safe_load(text))

    def test_every_field_has_a_description(self):
        fields = [
            (name, field)
            for model in (Job, *Job.model_json_schema()["$defs"].values())
            for name, field in (model if isinstance(model, dict) else model.model_json_schema())["properties"].items()
        ]
        without = {name for name, field in fields if "description" not in field}
        assert without == {"kind"}
