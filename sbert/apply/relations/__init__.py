"""Relations between the names in a text, by prototypes of a handful of examples, with an explicit none of these."""
