"""The engine that computes vectors: batches, runners, and the proof that a fast runner gives the right vectors.

A runner cuts tokenized texts into batches and computes their vectors. `padded` runs any Hugging Face encoder as it is.
`packed` runs the BERT family on tokens without padding, through fused operations of torch. `native` runs it through compiled
kernels, on a CPU with AMX.
"""
