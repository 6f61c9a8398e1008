"""Published artifacts of a pipeline, loaded for analysis."""
