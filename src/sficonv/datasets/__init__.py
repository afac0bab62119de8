"""What a dataset consists of: its layout, its items, and the manifest of its crops."""
