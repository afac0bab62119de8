"""Training: recipes, options, the Lightning module and `train`."""

from sficonv.training.options import Hardware, TrainOptions
from sficonv.training.recipes import RECIPES, Recipe
from sficonv.training.train import TrainResult, train

__all__ = ["RECIPES", "Hardware", "Recipe", "TrainOptions", "TrainResult", "train"]
