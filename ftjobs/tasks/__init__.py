"""One file per kind of label: classification, regression, multi-label classification."""
