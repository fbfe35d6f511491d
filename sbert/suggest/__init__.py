"""Active learning: choose the texts of a table that a person should label next."""
