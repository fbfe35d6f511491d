"""How the names in a text are related, by prototypes of a handful of examples, with an explicit none of these."""
