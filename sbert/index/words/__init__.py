"""Words: how texts are cut into terms."""
