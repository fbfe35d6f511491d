"""Names in the text of every row, found and typed from a handful of labelled texts."""
