"""Detectors by name."""

from sficonv.models import backbones as backbones
from sficonv.models.checkpoint import load_weights, read_card, save_weights
from sficonv.models.config import ModelConfig, to_input
from sficonv.models.registry import create_model, list_models, register_model
from sficonv.models.rivals import amtennet as amtennet
from sficonv.models.rivals import dcl as dcl
from sficonv.models.rivals import f3net as f3net
from sficonv.models.rivals import gocnet as gocnet
from sficonv.models.rivals import ldfnet as ldfnet
from sficonv.models.rivals import ltw as ltw
from sficonv.models.rivals import m2tr as m2tr
from sficonv.models.rivals import madd as madd
from sficonv.models.rivals import mclcr as mclcr
from sficonv.models.rivals import mesonet as mesonet
from sficonv.models.rivals import multitask as multitask
from sficonv.models.rivals import smil as smil
from sficonv.models.rivals import spsl as spsl
from sficonv.models.rivals import srm as srm
from sficonv.models.rivals import twobranch as twobranch
from sficonv.models.rivals import xray as xray

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
