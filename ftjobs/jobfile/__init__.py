"""What a user may write: validated fields, YAML with positions, overrides, and the JSON schema."""
