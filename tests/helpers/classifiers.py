"""Checks of published classifiers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ftjobs.predicting.classifier import Classifier


def check_predictions(folders: dict[str, Path], stage: str) -> None:
    """Compare the stage's predictions, those of `predict`, and those of transformers for one pair at a time."""
    stored = np.array(pq.read_table(folders[stage] / "predictions.parquet")["probabilities"].to_pylist())
    rows = pq.read_table(folders["prepare"] / "data/test.parquet").to_pydict()
    classifier = Classifier.load(str(folders[stage] / "model"), folders[stage])
    logits, _ = classifier.outputs(rows["text"], rows["text_pair"])
    np.testing.assert_allclose(torch.tensor(logits).softmax(-1), stored, rtol=1e-5, atol=1e-6)
    model = AutoModelForSequenceClassification.from_pretrained(folders[stage] / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(folders[stage] / "model")
    for row, pair in enumerate(zip(rows["text"], rows["text_pair"], strict=True)):
        with torch.no_grad():
            expected = model(**tokenizer(*pair, truncation=True, return_tensors="pt")).logits[0]
        np.testing.assert_allclose(logits[row], expected, rtol=1e-3, atol=1e-4)
    assert logits.std(axis=0).min() > 1e-2  # outputs differ between texts, so the comparison is meaningful
