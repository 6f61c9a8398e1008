"""Implementations of the objectives: examples, loss and evaluation."""
