"""Vector stores that follow a table: one class a store, all with the methods of `base.Destination`."""
