"""Job files: validated fields, YAML with line numbers, overrides, checks, and the JSON schema."""
