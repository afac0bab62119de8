"""The paper's operators: SFIConv, MCSConv, normalisation of both branches, and their cost."""

from sficonv.nn.complexity import Complexity, complexity
from sficonv.nn.constrained import MCSConv, constrain, no_weight_decay, project_after_step
from sficonv.nn.norm import SFIBatchNorm2d
from sficonv.nn.sficonv import SFIConv2d, SpaceFreq, frequency_channels, frequency_size

__all__ = [
    "Complexity",
    "MCSConv",
    "SFIBatchNorm2d",
    "SFIConv2d",
    "SpaceFreq",
    "complexity",
    "constrain",
    "frequency_channels",
    "frequency_size",
    "no_weight_decay",
    "project_after_step",
]
