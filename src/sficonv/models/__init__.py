"""Detectors by name."""

from sficonv.models import amtennet as amtennet
from sficonv.models import backbones as backbones
from sficonv.models import f3net as f3net
from sficonv.models import m2tr as m2tr
from sficonv.models import mesonet as mesonet
from sficonv.models import multitask as multitask
from sficonv.models import spsl as spsl
from sficonv.models import srm as srm
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
