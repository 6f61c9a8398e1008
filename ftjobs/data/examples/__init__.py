"""Training examples from texts: tokenization, masking, packing, segment pairs, batching, tokenizer fertility."""
