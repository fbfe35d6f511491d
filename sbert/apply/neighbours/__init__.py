"""The nearest rows of every row of a table, exact, kept up to date at the cost of what changed."""
