"""Words: terms of texts, postings in segments named after splits, and BM25 over all of them."""
