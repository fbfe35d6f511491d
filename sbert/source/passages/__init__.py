"""Cut documents into passages: which sentences there are, where to cut between them, and a row for each passage."""
