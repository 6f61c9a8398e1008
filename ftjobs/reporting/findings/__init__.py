"""Analyses of the published artifacts, one module per question; `collect` gathers them for `report.json`."""
