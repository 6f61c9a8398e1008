"""Experiment tracking with Weights & Biases. Without `tracking` in the job file, wandb is not imported.

Every stage and seed is one run, grouped by pipeline. The run id is derived from the identity, so a restarted stage
continues its run. wandb runs in a separate process, which training never waits for. All rows are also kept in this
process and in the training state. Whatever happens to the wandb process, the network or the node, a run ends up with
every row exactly once: on the server, or in run folders that are published with the artifact, for `wandb sync`.
"""

from ftjobs.tracking.tracker import LogMetrics, Tracker, check_installed, discard_metrics, open_tracker

__all__ = ["LogMetrics", "Tracker", "check_installed", "discard_metrics", "open_tracker"]
