"""A two-dimensional picture of a table: one page that shows the texts, with search, colours and topics, and no server."""
