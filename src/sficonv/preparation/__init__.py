"""Media of a data set in, face crops and a manifest out."""
