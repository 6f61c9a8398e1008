"""Where runs are logged."""

from __future__ import annotations

from ftjobs.jobfile.fields.base import Fields, NonEmpty


class WandbTracking(Fields):
    """Where runs are logged in Weights & Biases. The key comes from the environment, never from here."""

    project: NonEmpty = "ftjobs"
    entity: NonEmpty | None = None


class Tracking(Fields):
    """Experiment trackers; none unless set."""

    wandb: WandbTracking | None = None
