"""From `data:` and `corpus:` entries of a job file to training batches."""
