"""Import of weights that others published."""
