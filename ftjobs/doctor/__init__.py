"""`ftjobs doctor`: whether this machine, the store and the services around it will do, before hours depend on it."""

from ftjobs.doctor.finding import Finding

__all__ = ["Finding"]
