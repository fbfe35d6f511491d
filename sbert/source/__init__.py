"""Raw text: list objects, cut them into splits, and stream rows out of them."""
