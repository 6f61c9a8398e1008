"""Add domain words to a tokenizer and its encoder."""
