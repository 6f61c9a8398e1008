"""Plots of the findings as SVG and PNG."""
