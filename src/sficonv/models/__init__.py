"""Detectors by name."""

from sficonv.models import backbones as backbones
from sficonv.models.checkpoint import load_weights, read_card, save_weights
from sficonv.models.config import ModelConfig, to_input
from sficonv.models.registry import create_model, list_models, register_model

__all__ = [
    "ModelConfig",
    "create_model",
    "list_models",
    "load_weights",
    "read_card",
    "register_model",
    "save_weights",
    "to_input",
]
