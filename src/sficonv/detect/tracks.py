"""Moved to `sficonv.data.tracking`."""

from sficonv.data.tracking import Box, Tracker, look

__all__ = ["Box", "Tracker", "look"]
