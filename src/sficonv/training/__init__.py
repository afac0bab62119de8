"""Training: recipes, the Lightning module and `train`."""

from sficonv.training.recipes import RECIPES, Recipe, get_recipe
from sficonv.training.train import TrainResult, train

__all__ = ["RECIPES", "Recipe", "TrainResult", "get_recipe", "train"]
