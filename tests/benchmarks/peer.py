"""The peer: `transformers.Trainer` as run_glue and run_mlm --line_by_line use it, plain or tuned. See `measurement`.

Plain pads every text to 128 and trains in the Trainer's default precision. Tuned trains in bf16, pads to the longest
text of a batch (to a multiple of 8), groups texts of similar length and runs AdamW fused.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    default_data_collator,
    set_seed,
)

from ftjobs.data import prepared
from ftjobs.data.prepared import Rows
from ftjobs.system import device
from tests.benchmarks.measurement import Measured, Spec, report, spec_from_command_line

LONGEST = 128


class Stamps(TrainerCallback):
    """Start and end of training epochs; the Trainer evaluates after the end of an epoch."""

    def __init__(self) -> None:
        self.epochs: list[float] = []
        self.first = 0.0
        self.steps = 0
        self._began = 0.0

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        self.first = self.first or time.time()
        self._began = time.perf_counter()

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.epochs.append(time.perf_counter() - self._began)
        self.steps = state.global_step


def tokenized(tokenizer: PreTrainedTokenizerBase, rows: Rows, kind: str, pad: bool) -> Dataset:
    """Tokenize sentences for masked language modeling, labeled pairs for classification."""
    texts = [list(column) for column in ([rows.all_texts] if kind == "adapt" else rows.columns)]
    extra: dict[str, Any] = {"return_special_tokens_mask": True} if kind == "adapt" else {}
    columns = tokenizer(*texts, truncation=True, max_length=LONGEST, padding="max_length" if pad else False, **extra)
    if kind == "classify":
        columns["labels"] = rows.labels
    return Dataset.from_dict(dict(columns))


def arguments(spec: Spec) -> TrainingArguments:
    """Return training arguments: hyperparameters of the job file, all others by side."""
    tuned: dict[str, Any] = {
        "bf16": spec.precision == "bf16",
        "train_sampling_strategy": "group_by_length",
        "optim": "adamw_torch_fused",
        "dataloader_num_workers": spec.workers,
        "dataloader_persistent_workers": spec.workers > 0,
    }
    plain: dict[str, Any] = {"optim": "adamw_torch"}
    batch = spec.settings["per_device_batch_size"]
    return TrainingArguments(
        output_dir=spec.output,
        num_train_epochs=spec.settings["epochs"],
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        learning_rate=spec.settings["learning_rate"],
        weight_decay=spec.settings["weight_decay"],
        seed=spec.seed,
        eval_strategy="epoch",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=not torch.accelerator.is_available(),
        **(tuned if spec.side == "tuned" else plain),
    )


def accuracy(outputs: Any) -> dict[str, float]:
    """Return the accuracy as the script computes it."""
    return {"accuracy": float((np.argmax(outputs.predictions, axis=1) == outputs.label_ids).mean())}


def run(spec: Spec) -> Measured:
    """Train as the script does and print the measurements."""
    device.reset_peak_memory()
    set_seed(spec.seed)
    mlm, pad = spec.kind == "adapt", spec.side == "plain"
    folder = Path(spec.encoder) / "model"
    data = prepared.read(Path(spec.data) / "data")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    auto_class = AutoModelForMaskedLM if mlm else AutoModelForSequenceClassification
    options: dict[str, Any] = {} if mlm else {"num_labels": len(data.classes)}
    model = auto_class.from_pretrained(folder, dtype=torch.float32, **options)
    if spec.settings.get("freeze_encoder"):
        for parameter in model.base_model.parameters():
            parameter.requires_grad = False
    multiple = None if pad else 8
    collator: Any = default_data_collator
    if mlm:
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15, pad_to_multiple_of=multiple)
    elif not pad:
        collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=multiple)
    stamps = Stamps()
    trainer = Trainer(
        model=model,
        args=arguments(spec),
        data_collator=collator,
        train_dataset=tokenized(tokenizer, data.splits["train"], spec.kind, pad),
        eval_dataset=tokenized(tokenizer, data.splits["test"], spec.kind, pad),
        processing_class=tokenizer,
        compute_metrics=None if mlm else accuracy,
        callbacks=[stamps],
    )
    trainer.train()
    log = trainer.state.log_history
    trainer.save_model(str(Path(spec.output) / "model"))
    return Measured(
        start=stamps.first - spec.started,
        once=0.0,
        epochs=stamps.epochs,
        steps=stamps.steps // len(stamps.epochs),
        evaluation=statistics.median(entry["eval_runtime"] for entry in log if "eval_runtime" in entry),
        passes=1,
        passes_once=0,
        memory=device.peak_memory()[0],
        accuracy=None if mlm else max(entry["eval_accuracy"] for entry in log if "eval_accuracy" in entry),
        notes={"precision": "bf16" if trainer.args.bf16 else "fp32", "workers": spec.workers},
    )


if __name__ == "__main__":
    report(run(spec_from_command_line()))
