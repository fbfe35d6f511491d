"""Turn texts into token ids, a block of texts at a time."""
