"""Apply a trained classifier to texts and to files of any size; files are processed in chunks."""

from ftjobs.predicting.classifier import Classifier
from ftjobs.predicting.inference import EvaluationResult, Prediction, evaluate, predict, predict_texts

__all__ = ["Classifier", "EvaluationResult", "Prediction", "evaluate", "predict", "predict_texts"]
