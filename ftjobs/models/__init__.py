"""Encoders and their heads: bring one in, load it for a stage, freeze it, publish it whole."""
