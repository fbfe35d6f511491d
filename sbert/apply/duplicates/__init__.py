"""Group the texts of a table that say the same, with a representative each; the cost follows the changed rows."""
