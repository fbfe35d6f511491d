"""Why two texts are near: the part that each pair of their words has in the cosine, and what the vectors overlook."""
