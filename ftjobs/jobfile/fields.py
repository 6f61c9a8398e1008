"""The fields of a job file, their types, defaults and bounds.

Every model refuses unknown keys and converts nothing silently: `epochs: "8"` is an error, not 8. The docstring below
each field is what `ftjobs schema` hands to editors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: RFC 1123 label. Together with `checks.MAX_NAMES` short enough to name a Kubernetes Job.
DnsLabel = Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Fields(BaseModel):
    """Base of every part of a job file: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Scratch(Fields):
    """An encoder made on the spot: a WordPiece vocabulary trained on the job's own texts, and a small BERT with random
    weights. For domains that no pretrained model covers, and for trying things out without a download."""

    vocab_size: Annotated[int, Field(ge=100, le=200_000)] = 8_000
    """Most entries the WordPiece vocabulary may have."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the encoder; a multiple of `num_attention_heads`."""
    num_hidden_layers: Annotated[int, Field(ge=1, le=96)] = 2
    """Number of transformer layers."""
    num_attention_heads: Annotated[int, Field(ge=1, le=128)] = 2
    """Attention heads per layer."""
    intermediate_size: Annotated[int, Field(ge=8)] | None = None
    """Width of the feed-forward layers; four times `hidden_size` unless set."""
    max_position_embeddings: Annotated[int, Field(ge=8, le=65_536)] = 512
    """Longest input, in tokens."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of hidden states and attention."""
    lowercase: bool = True
    """Lower-case texts and strip accents before looking words up."""
    seed: Seed = 0
    """Seed of the initial weights."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Scratch:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self


class Encoder(Fields):
    """The pretrained encoder every strategy starts from: `model`, or `scratch`."""

    model: NonEmpty | None = None
    """Hub id such as `google-bert/bert-base-cased`, or a folder that `from_pretrained` loads."""
    revision: NonEmpty = "main"
    """Branch, tag or commit on the hub; resolved to a commit and recorded when the job is prepared."""
    scratch: Scratch | None = None
    """Make an encoder on the spot instead of loading one."""

    @model_validator(mode="after")
    def _one_origin(self) -> Encoder:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("needs exactly one of `model` (hub id or folder) and `scratch` (made on the spot)")
        return self


class Split(Fields):
    """How rows are divided into training, validation and test."""

    test_fraction: Fraction | None = None
    """Share of the rows to hold out for testing (rounded up, as `datasets.train_test_split` does). Without it the
    source must come with a test split of its own."""
    validation_fraction: Fraction | None = None
    """Share of the rows left after the test split to choose the best epoch on. Without it, and without a validation
    split of the source's own, the best epoch is chosen on the test split and the report says so."""
    seed: Seed = 42
    """Seed of the shuffle."""
    group_by: NonEmpty | None = None
    """`connected`: rows that share a text (in any text column) stay on one side. Or a column's name: rows with the
    same value stay on one side."""


class Data(Fields):
    """A labelled data set: where it is, which columns matter, how it is split."""

    source: NonEmpty | dict[Literal["train", "validation", "test"], NonEmpty]
    """Hub id; or a path, glob or folder of csv, tsv, jsonl, parquet or txt files (also .gz); or one of these per split:
    `{train: a.csv, test: b.csv}`. A path in a job file is relative to the job file."""
    revision: NonEmpty = "main"
    """Branch, tag or commit of a hub data set; resolved to a commit and recorded when the job is prepared."""
    config: NonEmpty | None = None
    """Configuration (subset) of a hub data set."""
    format: Literal["csv", "tsv", "jsonl", "parquet", "text"] | None = None
    """Format of the files, where their names do not tell."""
    columns: Annotated[list[NonEmpty], Field(min_length=1)] | None = None
    """Column names of csv or tsv files that have no header row."""
    text: Annotated[list[NonEmpty], Field(min_length=1, max_length=2)] | NonEmpty
    """One text column, or two for tasks on pairs of texts."""
    label: NonEmpty | None = None
    """Column of the class: strings or whole numbers. Jobs that only adapt need none."""
    split: Split = Split()
    """How rows are divided."""

    @property
    def text_columns(self) -> list[str]:
        """The text columns as a list of one or two names."""
        return [self.text] if isinstance(self.text, str) else list(self.text)


class TrainingFields(Fields):
    """What `adapt` and `classify` share. Defaults are those of `transformers.TrainingArguments`."""

    encoder: NonEmpty | None = None
    """Stage whose encoder this one starts from: an `adapt` or `classify` stage; the job's encoder unless set."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Passes over the training split."""
    per_device_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 8
    """Examples per forward pass and device."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Forward passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Decoupled weight decay; never on biases and normalisation weights."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's first-moment decay."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's second-moment decay."""
    adam_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """AdamW's denominator offset."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's global norm to this; 0 does not clip."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning rate after warm-up: down to 0 linearly, down to 0 along a cosine, or constant."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps over which the learning rate rises from 0."""
    max_length: Annotated[int, Field(ge=4, le=65_536)] = 512
    """Longest input in tokens, never more than the encoder takes; longer texts are cut and counted."""
    save_every: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smh]$")] = "5m"
    """Save training state this often: a time such as `30s`, `5m` or `1h`, or a number of optimizer steps. A killed
    stage goes on from there. It does not change results, so it is no part of a stage's identity."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """`auto`: bf16 on hardware that has it, fp16 on older GPUs, else fp32. Evaluation is always fp32."""


class Adapt(TrainingFields):
    """Go on pretraining the encoder on the domain's texts, without labels."""

    kind: Literal["adapt"] = "adapt"
    objective: Literal["mlm"] = "mlm"
    """Masked language modelling, one sentence an example (Devlin et al. 2019, section 3.1)."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens to predict; of these 80 % are masked, 10 % replaced by a random token, 10 % kept."""
    corpus: Literal["train", "all"] = "train"
    """Texts of the training split only, or of all splits (validation and test texts without their labels)."""


class Classify(TrainingFields):
    """Train a classifier on the labels, on a frozen or a fine-tuned encoder."""

    kind: Literal["classify"] = "classify"
    freeze_encoder: bool = False
    """Train only the head: the encoder keeps every weight that came from its checkpoint."""
    encoder_dropout: bool = False
    """With a frozen encoder: leave its dropout on and run it every epoch. Slow and noisy; for comparison only."""
    metric_for_best: Literal["accuracy", "f1", "loss"] = "accuracy"
    """The best epoch is the first with the highest accuracy or F1, or the lowest loss."""

    @model_validator(mode="after")
    def _dropout_needs_frozen(self) -> Classify:
        if self.encoder_dropout and not self.freeze_encoder:
            raise ValueError("encoder_dropout only has a meaning with freeze_encoder: true")
        return self


Stage = Annotated[Adapt | Classify, Field(discriminator="kind")]


class Defaults(Fields):
    """Fields that every stage of a kind starts from; a stage's own fields win."""

    adapt: Adapt | None = None
    classify: Classify | None = None


class WandbTracking(Fields):
    """Where runs are logged in Weights & Biases. The key comes from the environment, never from here."""

    project: NonEmpty = "ftjobs"
    entity: NonEmpty | None = None


class Tracking(Fields):
    """Experiment trackers; none unless set."""

    wandb: WandbTracking | None = None


_HYPOTHESIS = re.compile(r"^\s*(?P<better>\S+)\s*>\s*(?P<worse>\S+?)(?:\s+by\s+(?P<by>\d*\.?\d+))?\s*$")


class Hypothesis(Fields):
    """`better > worse [by margin]`: what the user expects of two classify stages."""

    better: str
    worse: str
    by: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Hypothesis:
        """Read `a > b` or `a > b by 0.02`; ValueError when the text is neither, or the margin is 1 or more."""
        match = _HYPOTHESIS.match(text)
        if match is None:
            raise ValueError("is not of the form `stage > stage` or `stage > stage by 0.02`")
        by = float(match["by"] or 0)
        if by >= 1:
            raise ValueError("has a margin of 1 or more; accuracies are fractions, so two points are `by 0.02`")
        return cls(better=match["better"], worse=match["worse"], by=by)


class Job(Fields):
    """A pipeline: one encoder, one labelled data set, and the strategies to compare on them."""

    name: DnsLabel
    """Name of the pipeline: lower-case letters, digits and dashes. Part of every path in storage."""
    encoder: Encoder
    """The encoder every strategy starts from."""
    data: Data
    """The labelled data set."""
    seeds: Annotated[list[Seed], Field(min_length=1)] = [42]
    """Every training stage runs once per seed; more seeds, narrower intervals."""
    defaults: Defaults = Defaults()
    """Fields shared by all stages of a kind."""
    stages: Annotated[dict[DnsLabel, Stage], Field(min_length=1)]
    """The stages to run, by name. `prepare` and `report` are always there and need no entry."""
    hypotheses: list[str] = []
    """What is expected, as `stage > stage` or `stage > stage by 0.02`; the report sets it against what was found."""
    tracking: Tracking = Tracking()
    """Experiment tracking."""

    def stage(self, name: str) -> Adapt | Classify:
        """A stage with the job's defaults for its kind filled in.

        Raises:
            ValidationError: the stage and the defaults are each valid but not together.
        """
        return type(self.stages[name]).model_validate(self._merged(name))

    def stage_encoder(self, name: str) -> str | None:
        """The stage whose encoder a stage starts from, None for the job's encoder."""
        encoder: str | None = self._merged(name).get("encoder")
        return encoder

    def _merged(self, name: str) -> dict[str, Any]:
        stage = self.stages[name]
        defaults = self.defaults.adapt if stage.kind == "adapt" else self.defaults.classify
        inherited = defaults.model_dump(exclude_unset=True) if defaults else {}
        return inherited | stage.model_dump(exclude_unset=True)
