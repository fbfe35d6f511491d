"""Vector stores that follow a table. Each store has a class with the methods of `base.Destination`."""
