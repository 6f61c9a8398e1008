"""From texts to training examples: tokens, words and sentences, masks, packing, pairs, batches."""
