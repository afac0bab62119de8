"""The paper's tables as runnable recipes: what it prints, and what this library gives.

What a table prints is data, in a YAML file beside the module that reproduces it.
"""

from sficonv.evaluation.tables.reproduce import TABLES, reproduce

__all__ = ["TABLES", "reproduce"]
