"""Add words of the domain to a tokenizer and its encoder."""
