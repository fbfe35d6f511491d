"""Tables that say something about each row of an embeddings table, and stay in step with it split by split."""
