"""Tables of other systems as raw text: the files of their newest version, from their logs."""
