"""Fields of all stages that train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftjobs.jobfile.fields.base import Fields, NonEmpty
from ftjobs.jobfile.fields.lora import Lora


class TrainingFields(Fields):
    """Fields of `adapt` and `classify` stages. Defaults are those of `transformers.TrainingArguments`."""

    encoder: NonEmpty | None = None
    """Stage that provides the encoder: an `adapt` or `classify` stage. Default: the job's encoder."""
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 3
    """Passes over the training split."""
    per_device_batch_size: Annotated[int, Field(ge=1, le=65_536)] = 8
    """Examples per forward pass and device."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1, le=65_536)] = 1
    """Forward passes per optimizer step."""
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 5e-5
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Decoupled weight decay; never on biases and normalization weights."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """AdamW's first-moment decay."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """AdamW's second-moment decay."""
    adam_epsilon: Annotated[float, Field(gt=0, lt=1)] = 1e-8
    """AdamW's denominator offset."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Clip the gradient's global norm to this; 0 does not clip."""
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule after warm-up: linear decay to 0, cosine decay to 0, or constant."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Optimizer steps over which the learning rate rises from 0."""
    early_stopping: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Stop after this many consecutive epochs without improvement over the best epoch (the patience of Goodfellow,
    Bengio and Courville 2016, "Deep learning", algorithm 7.1). The measure is that of the best epoch:
    `metric_for_best`, or the loss on held-out texts. The learning rate follows the schedule of all `epochs`."""
    max_length: Annotated[int, Field(ge=4, le=65_536)] = 512
    """Maximum input length in tokens, limited by the encoder; longer texts are truncated and counted."""
    save_every: Annotated[int, Field(ge=1)] | Annotated[str, Field(pattern=r"^[1-9][0-9]{0,5}[smh]$")] = "5m"
    """Interval between saves of the training state, from which a killed stage resumes: a time such as `30s`, `5m` or
    `1h`, or a number of optimizer steps. It does not change results and is not part of a stage's identity."""
    lora: Lora | None = None
    """Train low-rank adapters instead of the encoder's weights, along with the head and new parameters. They are merged
    into the weights before publishing, so the checkpoint has its usual form and does not need peft."""
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = "auto"
    """`auto`: bf16 on hardware that has it, fp16 on older GPUs, else fp32. Evaluation is always fp32."""
