"""The training loop with its optimizer, schedule, callbacks, training state, evaluation and cached features."""
