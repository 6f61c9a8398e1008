"""From a `data:` entry of a job file to batches: sources, splits, labels, tokenization, masking, batching."""
