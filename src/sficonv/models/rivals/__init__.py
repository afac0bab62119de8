"""The comparison detectors."""
