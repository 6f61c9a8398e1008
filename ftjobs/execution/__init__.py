"""Run stages: launcher, worker processes, heartbeats, peers, checkpointing, status."""
