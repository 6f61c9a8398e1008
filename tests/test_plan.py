import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import (
    Adapt,
    Classify,
    Corpus,
    Data,
    Encoder,
    Fields,
    Lora,
    Scratch,
    Streaming,
    Vocabulary,
)
from ftjobs.jobfile.read import read
from ftjobs.plan import STAGE_VERSIONS, StageRun, plan, select, select_index

REFERENCE = Path(__file__).parents[1] / "jobs" / "medical-questions.yaml"
STAGES = ["adapt", "head", "behavioural", "adapted-head", "adapted-behavioural"]
#: Stage -> the stages that read its output, other than the report.
READERS = {"adapt": {"adapted-head", "adapted-behavioural"}}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def runs(*overrides: str, job: Path = REFERENCE) -> list[StageRun]:
    return plan(read(job, overrides))


def identities(*overrides: str, job: Path = REFERENCE) -> dict[str, str]:
    return {f"{run.stage} {run.seed}": run.identity for run in runs(*overrides, job=job)}


def changed(*overrides: str, job: Path = REFERENCE, since: dict[str, str] | None = None) -> set[str]:
    """Return the stages whose identity changes with these overrides; the seeds must stay the same."""
    before, after = since or identities(job=job), identities(*overrides, job=job)
    assert before.keys() == after.keys()
    return {name.split()[0] for name in before if before[name] != after[name]}


class TestOrder:
    def test_reference_job_has_the_expected_runs(self):
        assert [run.stage for run in runs()] == ["prepare", *STAGES, "report"]

    def test_stages_come_after_their_inputs(self):
        planned = runs("stages.head.encoder=behavioural", "stages.behavioural.encoder=adapted-head", "seeds=[3, 1, 2]")
        assert [run.stage for run in planned if run.seed in (0, 3)] == [
            *("prepare", "adapt", "adapted-head", "behavioural", "head", "adapted-behavioural", "report")
        ]
        for position, run in enumerate(planned):
            assert all(read in planned[:position] for read in run.inputs.values())

    def test_seeds_keep_the_order_of_the_file(self):
        assert [run.seed for run in runs("seeds=[3, 1, 2]") if run.stage == "head"] == [3, 1, 2]

    def test_long_chain_of_encoders(self, here):
        job = yaml.safe_load(REFERENCE.read_text()) | {"hypotheses": []}
        chain = {"s0": {"kind": "adapt"}} | {f"s{i}": {"kind": "adapt", "encoder": f"s{i - 1}"} for i in range(1, 1500)}
        Path("job.yaml").write_text(yaml.safe_dump(job | {"stages": dict(reversed(chain.items()))}, sort_keys=False))
        assert [run.stage for run in runs(job=Path("job.yaml"))] == ["prepare", *chain, "report"]


class TestInputs:
    def test_inputs_of_each_stage(self):
        by_name = {run.stage: run for run in runs()}
        for name, encoder in {
            "adapt": "prepare",
            "head": "prepare",
            "behavioural": "prepare",
            "adapted-head": "adapt",
            "adapted-behavioural": "adapt",
        }.items():
            assert by_name[name].inputs == {"prepare": by_name["prepare"], "encoder": by_name[encoder]}
        assert by_name["prepare"].inputs == {}
        assert list(by_name["report"].inputs) == ["prepare", *(f"{name}/seed-42" for name in STAGES)]

    def test_stage_reads_encoder_of_same_seed(self):
        for run in runs("seeds=[1, 2]"):
            if run.stage == "adapted-head":
                assert run.inputs["encoder"].stage == "adapt"
                assert run.inputs["encoder"].seed == run.seed

    def test_prepare_and_report_run_once_for_all_seeds(self):
        planned = runs("seeds=[1, 2]")
        assert [run.stage for run in planned if not run.has_seed] == ["prepare", "report"]
        assert len(planned[-1].inputs) == 1 + 2 * len(STAGES)


def test_key_has_pipeline_stage_seed_and_identity():
    head = select(runs(), "head")
    assert head.key == f"medical-questions/head/seed-42/{head.identity[:12]}"
    assert runs()[0].key.startswith("medical-questions/prepare/seed-0/")


class TestIdentity:
    def test_is_the_same_in_every_process(self):
        script = (
            "import sys; from pathlib import Path; from ftjobs.jobfile.read import read; from ftjobs.plan import plan\n"
            "for run in plan(read(Path(sys.argv[1]))): print(run.stage, run.seed, run.identity)"
        )
        for hash_seed in ("1", "2"):
            process = subprocess.run(
                [sys.executable, "-c", script, str(REFERENCE)],
                env=os.environ | {"PYTHONHASHSEED": hash_seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert process.stdout.splitlines() == [f"{name} {identity}" for name, identity in identities().items()]

    def test_is_a_unique_sha256(self):
        computed = list(identities("seeds=[1, 2]").values())
        assert all(len(identity) == 64 and int(identity, 16) for identity in computed)
        assert len(set(computed)) == len(computed)

    @pytest.mark.parametrize("stage", STAGES)
    def test_learning_rate_changes_the_stage_and_its_readers(self, stage):
        assert changed(f"stages.{stage}.learning_rate=3e-5") == {stage, "report"} | READERS.get(stage, set())

    @pytest.mark.parametrize(
        "field",
        [
            *("epochs=2", "per_device_batch_size=2", "gradient_accumulation_steps=2", "weight_decay=0.1", "adam_beta1=0.8"),
            *("adam_beta2=0.9", "adam_epsilon=1e-6", "max_grad_norm=0", "schedule=cosine", "warmup_steps=1", "max_length=64"),
            *("mixed_precision=bf16", "freeze_encoder=true", "metric_for_best=f1", "encoder=adapt"),
            *("unfreeze=last-2", "layer_decay=0.9", "reinitialise_layers=1"),
            *("lora={}", "lora={rank: 4}", "early_stopping=1", "class_weights=balanced", "class_weights={a: 2.0}", "label_smoothing=0.1"),
        ],
    )  # fmt: skip
    def test_every_field_of_a_classify_stage_changes_it(self, field):
        assert changed(f"stages.behavioural.{field}") == {"behavioural", "report"}

    @pytest.mark.parametrize(
        "field", ["objective=mlm+nsp", "mlm_probability=0.3", "masking=span", "replace.mask=0.7", "corpus=all"]
    )
    def test_every_field_of_an_adapt_stage_changes_it_and_its_readers(self, field):
        shares = ["stages.adapt.replace.keep=0.2"] if field.startswith("replace") else []
        assert changed(f"stages.adapt.{field}", *shares) == {"adapt", "adapted-head", "adapted-behavioural", "report"}

    @pytest.mark.parametrize(
        "override",
        [
            *("data.split.test_fraction=0.1", "data.split.validation_fraction=0.1", "data.split.seed=1"),
            *("data.split.group_by=connected", "data.label=other", "data.text=question_1", "data.source=me/pairs"),
            *("data.revision=v2", "data.config=b", "encoder.model=me/encoder", "encoder.revision=v2"),
            "encoder={scratch: {}}",
        ],
    )
    def test_data_and_encoder_change_every_stage(self, override):
        assert changed(override) == {"prepare", *STAGES, "report"}

    def test_job_default_changes_stages_that_do_not_override_it(self):
        assert changed("defaults.classify.epochs=2", "stages.head.epochs=8") == {
            *("behavioural", "adapted-head", "adapted-behavioural", "report")
        }

    @pytest.mark.parametrize(
        "override",
        [
            "tracking.wandb.project=mine",
            "tracking={wandb: {}}",
            "stages.head.epochs=8",  # same as the job's default
            "stages.head.gradient_accumulation_steps=1",  # same as the built-in default
            "stages.head.learning_rate=0.00002",
            "stages.adapt.masking=token",
            "stages.adapt.replace={mask: 0.8, random: 0.1, keep: 0.1}",
            "encoder.revision=main",
        ],
    )
    def test_settings_without_effect_on_results_change_nothing(self, override):
        assert changed(override) == set()

    def test_pipeline_name_changes_the_report_only(self):
        assert changed("name=other") == {"report"}
        assert runs("name=other")[1].key.startswith("other/adapt/")

    def test_report_settings_hold_the_resolved_job_without_local_paths(self, here):
        Path("rows.csv").write_text("a,b\n")
        overrides = [f"data.source={here}/rows.csv", "tracking.wandb.project=mine", "stages.head.save_every=9s"]
        job = runs(*overrides)[-1].settings.job
        assert job["data"]["source"] == "rows.csv"
        assert job["stages"]["head"]["epochs"] == 8  # default of the job
        assert job["stages"]["head"]["adam_beta2"] == 0.999  # built-in default
        assert str(here) not in str(job)
        Path("again.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        assert identities(job=Path("again.yaml")) == identities(*overrides)

    def test_hypotheses_change_the_report_only(self):
        assert changed("hypotheses=[]") == {"report"}

    def test_added_stage_changes_the_report_only(self):
        before, after = identities(), identities("stages.new={kind: classify, epochs: 1}")
        assert {name for name in before if before[name] != after[name]} == {"report 0"}

    def test_added_seed_changes_the_report_only(self):
        before, after = identities("seeds=[1, 2]"), identities("seeds=[3, 2, 1]")
        assert {name for name in before if before[name] != after[name]} == {"report 0"}

    def test_seed_of_scratch_encoder_changes_every_stage(self):
        assert changed("encoder={scratch: {seed: 1}}", since=identities("encoder={scratch: {}}")) == {
            *("prepare", "report"),
            *STAGES,
        }

    def test_order_of_stages_changes_the_report_only(self, here):
        job = yaml.safe_load(REFERENCE.read_text())
        job["stages"] = dict(reversed(job["stages"].items()))
        Path("reversed.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        before, after = identities(), identities(job=Path("reversed.yaml"))
        assert {name for name in before if before[name] != after[name]} == {"report 0"}

    def test_layout_of_the_file_changes_nothing(self):
        Path("plain.yaml").write_text(yaml.safe_dump(yaml.safe_load(REFERENCE.read_text()), sort_keys=False))
        assert identities(job=Path("plain.yaml")) == identities()

    def test_built_in_defaults_match_the_stage_versions(self):
        """Identities leave out defaults, so a changed default must raise the version of its kind."""
        assert STAGE_VERSIONS == {"prepare": 3, "data": 1, "corpus": 2, "adapt": 5, "classify": 4, "report": 3}
        training = {
            "encoder": None,
            "epochs": 3,
            "per_device_batch_size": 8,
            "gradient_accumulation_steps": 1,
            "learning_rate": 5e-5,
            "weight_decay": 0.0,
            "adam_beta1": 0.9,
            "adam_beta2": 0.999,
            "adam_epsilon": 1e-8,
            "max_grad_norm": 1.0,
            "schedule": "linear",
            "warmup_steps": 0,
            "early_stopping": None,
            "lora": None,
            "max_length": 512,
            "save_every": "5m",
            "mixed_precision": "auto",
        }
        scratch = {
            "vocab_size": 8_000,
            "hidden_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "seed": 0,
            "intermediate_size": None,
            "max_position_embeddings": 512,
            "dropout": 0.1,
            "lowercase": True,
        }
        replace = {"mask": 0.8, "random": 0.1, "keep": 0.1}
        adapt = {
            "objective": "mlm",
            "mlm_probability": 0.15,
            "masking": "token",
            "replace": replace,
            "generator_size": 0.25,
            "corpus": "train",
            "vocabulary": None,
        }
        split = {"test_fraction": None, "validation_fraction": None, "seed": 42, "group_by": None}
        data = {"revision": "main", "config": None, "format": None, "columns": None, "label": None, "split": split}
        data |= {"label_type": "class", "label_separator": ","}
        defaults: dict[type[Fields], dict[str, Any]] = {
            Adapt: training | adapt,
            Classify: training
            | {"data": None, "freeze_encoder": False, "encoder_dropout": False, "metric_for_best": "accuracy"}
            | {"unfreeze": "all", "layer_decay": 1.0, "reinitialise_layers": 0}
            | {"class_weights": None, "label_smoothing": 0.0},
            Encoder: {"model": None, "revision": "main", "scratch": None},
            Scratch: scratch,
            Vocabulary: {"min_count": None, "init": "mean-of-pieces"},
            Lora: {"rank": 8, "alpha": 16.0, "dropout": 0.0, "target_modules": "attention"},
            Data: data,
            Streaming: {"shuffle_buffer": 10_000},
            Corpus: {"revision": "main", "config": None, "split": None, "format": None, "columns": None, "text": "text"}
            | {"text_files": "line", "near_duplicates": 0.8, "decontaminate": True, "shortest_test_text": 1}
            | {"held_out": None, "streaming": None, "seed": 42, "unit": "packed", "isolate": False},
        }
        for kind, expected in defaults.items():
            fields = kind.model_fields
            defaults_now = {name: fields[name].get_default(call_default_factory=True) for name in expected}
            assert {
                name: value.model_dump() if isinstance(value, Fields) else value for name, value in defaults_now.items()
            } == expected

    def test_version_of_a_kind_changes_its_stages_and_their_readers(self, monkeypatch):
        before = identities()
        monkeypatch.setitem(STAGE_VERSIONS, "adapt", 1_000)
        assert changed(since=before) == {"adapt", "adapted-head", "adapted-behavioural", "report"}


class TestCorpus:
    """An adapt stage with its own corpus reads it from an implicit stage of kind `corpus`."""

    corpus = "stages.adapt.corpus={source: me/corpus}"

    def test_stages_with_the_same_passages_share_a_corpus_stage(self):
        other = "stages.more={kind: adapt, corpus: {source: [me/corpus], unit: document}}"
        planned = runs(self.corpus, other, "stages.third={kind: adapt, corpus: {source: me/other}}", "seeds=[1, 2]")
        assert [run.stage for run in planned if not run.has_seed] == [
            *("prepare", "adapt-corpus", "third-corpus", "report")
        ]
        by_name = {run.stage: run for run in planned}
        provider = by_name["adapt-corpus"]
        assert (provider.kind, provider.seed, provider.inputs) == ("corpus", 0, {"prepare": by_name["prepare"]})
        assert {run.stage for run in planned if run.inputs.get("corpus") is provider} == {"adapt", "more"}
        assert by_name["report"].inputs["adapt-corpus"] is provider
        for position, run in enumerate(planned):
            assert all(read in planned[:position] for read in run.inputs.values())

    def test_changes_its_stage_and_the_readers_only(self):
        before, after = identities(), identities(self.corpus)
        changed_names = {name for name in before if before[name] != after[name]}
        assert changed_names == {"adapt 42", "adapted-head 42", "adapted-behavioural 42", "report 0"}
        assert set(after) - set(before) == {"adapt-corpus 0"}

    @pytest.mark.parametrize(
        ("field", "changes_passages"),
        [
            *(("unit: document", False), ("isolate: true", False)),
            *(("text: body", True), ("decontaminate: false", True), ("near_duplicates: keep", True), ("seed: 1", True)),
            *(("held_out: 9", True), ("streaming: {limit: 9}", True), ("revision: v2", True), ("split: en", True)),
        ],
    )
    def test_field_changes_the_stages_that_it_affects(self, field, changes_passages):
        before, after = identities(self.corpus), identities(self.corpus[:-1] + f", {field}}}")
        assert (before["adapt-corpus 0"] != after["adapt-corpus 0"]) is changes_passages
        assert before["adapt 42"] != after["adapt 42"]
        assert before["prepare 0"] == after["prepare 0"]
        assert before["head 42"] == after["head 42"]

    def test_corpus_without_decontamination_has_no_inputs(self):
        provider = select(runs("stages.adapt.corpus={source: me/corpus, decontaminate: false}"), "adapt-corpus")
        assert provider.inputs == {}

    def test_local_files_are_identified_by_content(self, here):
        Path("a.txt").write_text("one")
        Path("elsewhere").mkdir()
        shutil.copy("a.txt", "elsewhere")
        corpus = "stages.adapt.corpus={source: a.txt}"
        before = identities(corpus)
        assert before == identities(corpus.replace("a.txt", f"{here}/elsewhere/a.txt"))
        assert runs(corpus)[-1].settings.job["stages"]["adapt"]["corpus"]["source"] == "a.txt"
        Path("a.txt").write_text("two")
        assert before["adapt-corpus 0"] != identities(corpus)["adapt-corpus 0"]

    def test_paths_are_relative_to_the_job_file(self, here):
        Path("jobs/texts").mkdir(parents=True)
        Path("jobs/texts/a.txt").write_text("one")
        job = yaml.safe_load(REFERENCE.read_text())
        job["stages"]["adapt"]["corpus"] = {"source": ["texts", "me/corpus"]}
        Path("jobs/job.yaml").write_text(yaml.safe_dump(job, sort_keys=False))
        provider = select(runs(job=Path("jobs/job.yaml")), "adapt-corpus")
        assert provider.settings.corpus.sources == [str(here / "jobs/texts"), "me/corpus"]

    def test_missing_file_is_an_error_with_field_path(self):
        with pytest.raises(UserError) as caught:
            runs("stages.adapt.corpus={source: ./none.txt}")
        assert str(caught.value).startswith("stages.adapt.corpus.source: ")
        assert "'./none.txt'" in str(caught.value)


class TestOwnData:
    """A classify stage with its own data (an intermediate task) reads it from an implicit stage of kind `data`."""

    intermediate = (
        "stages.nli={kind: classify, epochs: 1, data: {source: me/nli, text: a, label: b, split: {test_fraction: 0.1}}}"
    )
    shared = intermediate.replace("stages.nli", "stages.other")

    def test_stages_with_the_same_data_share_a_data_stage(self):
        planned = runs(self.intermediate, self.shared, "stages.head.encoder=nli", "seeds=[1, 2]")
        assert [run.stage for run in planned if run.seed in (0, 1)] == [
            *("prepare", "nli-data", "adapt", "nli", "head", "behavioural", "adapted-head", "adapted-behavioural"),
            *("other", "report"),
        ]
        by_name = {run.stage: run for run in planned}
        provider = by_name["nli-data"]
        assert (provider.kind, provider.seed, provider.inputs, provider.has_seed) == ("data", 0, {}, False)
        assert {run.stage for run in planned if run.inputs.get("data") is provider} == {"nli", "other"}
        assert (by_name["nli"].data, by_name["head"].data) == (provider, by_name["prepare"])
        assert by_name["report"].inputs["nli-data"] is provider
        assert by_name["report"].settings.own_data == {"nli": "nli-data", "other": "nli-data"}

    def test_changes_no_other_stage(self):
        before, after = identities(), identities(self.intermediate)
        assert {name for name in before if before[name] != after[name]} == {"report 0"}

    @pytest.mark.parametrize("change", ["text=c", "source=me/other", "split.test_fraction=0.2", "revision=v2"])
    def test_changes_its_readers_only(self, change):
        overrides = [self.intermediate, "stages.head.encoder=nli"]
        assert changed(*overrides, f"stages.nli.data.{change}", since=identities(*overrides)) == {
            *("nli-data", "nli", "head", "report")
        }

    def test_data_equal_to_the_jobs_adds_no_stage(self):
        data = json.dumps(yaml.safe_load(REFERENCE.read_text())["data"])
        assert changed(f"stages.head.data={data}") == set()
        assert runs(f"stages.head.data={data}")[-1].settings.own_data == {}

    def test_resolved_job_keeps_files_of_equal_name_apart(self, here):
        job = yaml.safe_load(REFERENCE.read_text())
        for folder, text in (("a", "x"), ("b", "y")):
            Path(folder).mkdir()
            Path(folder, "rows.csv").write_text(text)
        job["data"]["source"] = "a/rows.csv"
        job["stages"]["nli"] = {"kind": "classify", "data": {**job["data"], "source": "b/rows.csv"}}
        Path("job.yaml").write_text(json.dumps(job))
        planned = runs(job=Path("job.yaml"))
        resolved = planned[-1].settings.job
        assert resolved["data"]["source"] == "rows.csv"
        assert resolved["stages"]["nli"]["data"]["source"] == "nli-data/rows.csv"
        Path("elsewhere/nli-data").mkdir(parents=True)
        shutil.copy("a/rows.csv", "elsewhere/rows.csv")
        shutil.copy("b/rows.csv", "elsewhere/nli-data/rows.csv")
        Path("elsewhere/job.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False))
        assert identities(job=Path("elsewhere/job.yaml")) == identities(job=Path("job.yaml"))

    def test_missing_file_is_an_error_with_field_path(self, here):
        with pytest.raises(UserError, match=r"^stages.nli.data.source: .*'a.csv'"):
            runs(self.intermediate, "stages.nli.data.source=a.csv")


class TestLabelTypes:
    numbers = "data.label_type=float"

    def test_label_type_changes_every_stage(self):
        assert changed(self.numbers) == {"prepare", *STAGES, "report"}

    def test_default_metric_of_label_type_changes_nothing(self):
        assert changed(self.numbers, "stages.head.metric_for_best=mse", since=identities(self.numbers)) == set()
        assert changed(self.numbers, "stages.head.metric_for_best=pearson", since=identities(self.numbers)) == {
            *("head", "report")
        }

    def test_resolved_job_names_the_default_metric_and_keeps_identities(self, here):
        job = runs(self.numbers)[-1].settings.job
        assert job["stages"]["head"]["metric_for_best"] == "mse"
        Path("again.yaml").write_text(json.dumps(job))
        assert identities(job=Path("again.yaml")) == identities(self.numbers)


class TestIdentityOfFiles:
    every_stage = frozenset({"prepare", *STAGES, "report"})

    def write(self, **files: str) -> None:
        for name, content in files.items():
            path = Path(name.replace("__", "/").replace("_csv", ".csv"))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def test_content_changes_every_stage(self):
        self.write(a_csv="question_1,question_2,label\n")
        before = identities("data.source=a.csv")
        self.write(a_csv="question_1,question_2,label\na,b,0\n")
        assert changed("data.source=a.csv", since=before) == self.every_stage

    def test_parent_folder_changes_nothing(self):
        self.write(a_csv="x", other__folder__a_csv="x", job=REFERENCE.read_text())
        Path("elsewhere").mkdir()
        shutil.copy("a.csv", "elsewhere")
        Path("elsewhere/job.yaml").write_text(
            REFERENCE.read_text().replace("source: curaihealth/medical_questions_pairs", "source: a.csv")
        )
        assert identities("data.source=a.csv") == identities("data.source=./other/folder/a.csv")
        assert identities("data.source=a.csv") == identities(job=Path("elsewhere/job.yaml"))
        assert identities("data.source=a.csv") == identities(f"data.source={Path('a.csv').absolute()}")

    def test_data_files_in_a_folder_are_identified_one_by_one(self):
        self.write(d__a_csv="x", d__b_csv="y")
        before = identities("data.source=./d")
        assert identities('data.source="d/*.csv"') == before
        self.write(d__notes="no data")
        assert identities("data.source=./d") == before
        self.write(d__c_csv="z")
        assert changed("data.source=./d", since=before) == self.every_stage

    def test_names_of_splits_change_every_stage(self):
        self.write(d__train__a_csv="x", d__dev__b_csv="y")
        before = identities("data.source=./d")
        Path("d/dev").rename("d/test")
        assert changed("data.source=./d", since=before) == self.every_stage

    def test_assignment_of_files_to_splits_changes_every_stage(self):
        self.write(a_csv="x", b_csv="y")
        before = identities("data.source={train: a.csv, test: b.csv}")
        assert changed("data.source={train: b.csv, test: a.csv}", since=before) == self.every_stage

    def test_encoder_is_identified_by_its_files(self):
        self.write(encoder__config="{}", encoder__weights="1", moved__config="{}", moved__weights="1")
        before = identities("encoder.model=./encoder")
        assert identities("encoder.model=./moved") == before
        self.write(encoder__weights="2")
        assert changed("encoder.model=./encoder", since=before) == self.every_stage

    @pytest.mark.parametrize(
        ("override", "field", "value"),
        [
            ("data.source=a.csv", "data.source", "'a.csv' (looked at {here}/a.csv); "),
            ("data.source=./none", "data.source", "'./none' (looked at {here}/none); "),
            ('data.source="*.csv"', "data.source", "'*.csv' (looked at {here}/*.csv); "),
            ("data.source={train: a.csv}", "data.source", "'a.csv' "),
            ("encoder.model=./none", "encoder.model", "(looked at {here}/none); "),
            ("encoder.model=~nobody-here/x", "encoder.model", "~nobody-here/x "),
        ],
    )
    def test_missing_file_is_an_error_with_field_path(self, override, field, value, here):
        with pytest.raises(UserError) as caught:
            runs(override)
        assert str(caught.value).startswith(f"{field}: ")
        assert value.format(here=here) in str(caught.value)


class TestSelect:
    def test_by_stage_and_seed(self):
        assert select(runs(), "head").stage == "head"
        assert select(runs(), "head", 42).seed == 42
        assert select(runs("seeds=[1, 2]"), "head", 2).seed == 2

    def test_stages_without_seed_accept_any(self):
        assert select(runs("seeds=[1, 2]"), "report", 7).stage == "report"
        assert select(runs("seeds=[1, 2]"), "prepare").stage == "prepare"

    def error_of(self, planned: list[StageRun], *arguments: Any) -> str:
        with pytest.raises(UserError) as caught:
            select(planned, *arguments)
        return str(caught.value)

    def test_unknown_stage_or_seed_lists_the_choices(self):
        unknown = self.error_of(runs(), "haed")
        assert "`haed`" in unknown
        assert unknown.endswith(f": prepare, {', '.join(STAGES)}, report")
        no_seed = self.error_of(runs("seeds=[1, 2]"), "head", 3)
        assert no_seed.startswith("stage `head` ")
        assert "seed 3; " in no_seed
        assert no_seed.endswith(": 1, 2")
        ambiguous = self.error_of(runs("seeds=[1, 2]"), "head")
        assert ambiguous.startswith("stage `head` ")
        assert "seeds 1, 2; " in ambiguous
        assert "--seed" in ambiguous


class TestSelectIndex:
    def test_is_the_position_of_the_seed_in_the_file(self):
        planned = runs("seeds=[7, 3, 5]")
        assert [select_index(planned, "head", index).seed for index in range(3)] == [7, 3, 5]
        assert select_index(planned, "report", 0) == select(planned, "report")

    @pytest.mark.parametrize(("stage", "index"), [("head", 3), ("head", -1), ("prepare", 1)])
    def test_out_of_range(self, stage, index):
        with pytest.raises(UserError, match=f"--seed-index {index}: stage `{stage}` "):
            select_index(runs("seeds=[7, 3, 5]"), stage, index)

    def test_unknown_stage_is_an_error(self):
        with pytest.raises(UserError, match="no stage `tail`"):
            select_index(runs(), "tail", 0)
