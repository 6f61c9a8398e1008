"""Run stages and publish them: runner, launcher, process pool, heartbeats, peers, checkpointing, status."""
