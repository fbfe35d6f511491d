"""Applications of vectors, one package each."""
