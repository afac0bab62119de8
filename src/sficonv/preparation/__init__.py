"""Media of a dataset in, face crops and a manifest out."""
