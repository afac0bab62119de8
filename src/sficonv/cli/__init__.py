"""The command line."""

from sficonv.cli.app import main

__all__ = ["main"]
