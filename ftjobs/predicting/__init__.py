"""Using a trained classifier: on files of any size, in chunks, so that memory does not grow with them."""

from ftjobs.predicting.classifier import Classifier
from ftjobs.predicting.running import Evaluated, Prediction, evaluate, predict, predict_texts

__all__ = ["Classifier", "Evaluated", "Prediction", "evaluate", "predict", "predict_texts"]
