"""How an encoder computes: batches, fast paths, and the proof that a fast path gives the same vectors.

A runner cuts tokenized texts into batches and computes their vectors. `padded` runs any Hugging Face encoder as it is;
`packed` runs the BERT family on tokens without padding through fused operations.
"""
