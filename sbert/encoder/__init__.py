"""`SentenceEncoder`: model folders, pooling, `tokenization`, and the `engine` that computes vectors."""
