"""Signals, progress bars and logs, compute devices, and errors of the Hugging Face Hub."""
