"""Stored forms of a vector (float32, int8, leading dimensions) and the checks that every vector passes."""
