"""From the passages of a source to a corpus: read, cleaned of repetitions and of test texts, published."""
