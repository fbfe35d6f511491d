"""Items that each person will like, from their events and the vectors of the items."""
