"""Load, freeze, extend and save encoders and their heads."""
