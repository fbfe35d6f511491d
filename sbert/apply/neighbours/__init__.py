"""The nearest rows of every row of a table, exact, kept up to date at a cost that follows the changes."""
