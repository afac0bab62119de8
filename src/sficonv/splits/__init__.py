"""Which crop belongs to which split, and whether the splits leak."""
