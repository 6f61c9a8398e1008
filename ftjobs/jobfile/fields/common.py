"""Types and fields that several parts of a job file share: `Fields`, and the fields of all training stages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

#: RFC 1123 label. The maximum length, with `checks.MAX_NAMES`, keeps names of Kubernetes Jobs valid.
DnsLabel = Annotated[str, Field(max_length=40, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
NonEmpty = Annotated[str, Field(min_length=1)]


class Fields(BaseModel):
    """Base of every mapping in a job file: strict types, no unknown keys, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Lora(Fields):
    """Low-rank adaptation: freeze the encoder's weights W and train a low-rank update, W + (alpha / rank) B A, where B
    starts at zero (Hu et al. 2022, "LoRA: Low-rank adaptation of large language models", section 4)."""

    rank: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rank of the update: rows of A and columns of B."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 16.0
    """Scale of the update; it is multiplied by `alpha / rank`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout of the inputs of A in training."""
    target_modules: Literal["attention", "all-linear"] | Annotated[list[NonEmpty], Field(min_length=1)] = "attention"
    """Linear layers to adapt: `attention`, those of the attention blocks; `all-linear`, also those of the feed-forward
    blocks; or a list of module name suffixes such as `[query, value]`."""

    def __str__(self) -> str:
        return f"LoRA of rank {self.rank}"


class TrainingFields(Fields):
    """Fields of `adapt` and `classify` stages, with the defaults of `transformers.TrainingArguments`."""

    encoder: NonEmpty | None = None
    """Name of an `adapt` or `classify` stage whose encoder to start from; by default the job's encoder."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Number of passes over the training examples."""
    per_device_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 8
    """Examples per forward pass and device, for training and evaluation."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Forward passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Decoupled weight decay of AdamW; not applied to biases and normalization weights."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay rate of AdamW's first moment."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay rate of AdamW's second moment."""
    adam_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """Constant that AdamW adds to the denominator."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Maximum global gradient norm (gradient clipping); 0 disables clipping."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule after warm-up: linear decay to 0, cosine decay to 0, or constant."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps of linear warm-up from 0."""
    early_stopping: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Patience: stop after this many consecutive epochs without improvement of the metric that selects the best epoch
    (Goodfellow, Bengio and Courville 2016, "Deep learning", algorithm 7.1); by default never. The learning-rate
    schedule still spans all `epochs`."""
    max_length: Annotated[int, Field(ge=4, le=65_536)] = 512
    """Maximum input length in tokens, limited by the encoder. Longer texts are truncated and counted."""
    save_every: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smh]$")] = "5m"
    """Interval of saving training state, from which a killed stage resumes: a time such as `30s`, `5m` or `1h`, or a
    number of optimizer steps. Not part of the stage's identity, as it does not change results."""
    lora: Lora | None = None
    """Train low-rank adapters instead of the encoder's weights, together with newly initialized weights. The adapters
    are merged before publishing, so the checkpoint is an ordinary one and does not require peft."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """Precision of training. `auto`: bf16 if the hardware supports it, fp16 on older GPUs, else fp32. Evaluation always
    uses fp32."""
