"""One class a format: its endings, its columns and their types, how it is cut, counted and read."""
