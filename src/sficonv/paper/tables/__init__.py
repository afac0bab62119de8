"""The paper's tables as runnable recipes: what it prints, and what this library gives.

What a table prints, and what has to be trained for it, is data: a YAML file in the folder `recipes`. This
package stands above training and evaluation, which do not know each other, and uses both.
"""

from sficonv.paper.tables.reproduce import TABLES, reproduce

__all__ = ["TABLES", "reproduce"]
