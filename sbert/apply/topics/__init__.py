"""The topics of a table, stable from night to night: words, typical texts, outliers, two levels, changes over time."""
