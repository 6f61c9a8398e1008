"""One file per way to adapt an encoder: masked language modeling, sentence pairs, replaced tokens."""
