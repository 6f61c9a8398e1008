"""Label columns: validation, class names, encoding."""
