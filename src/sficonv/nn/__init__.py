"""The paper's operators, and the conversion of whole backbones."""

from sficonv.nn.complexity import Complexity, complexity
from sficonv.nn.constrained import MCSConv, constrain, project_after_step
from sficonv.nn.convert import ConvertedModel, convert
from sficonv.nn.fold import FoldedModel, FoldReport, fold
from sficonv.nn.norm import SFIBatchNorm2d
from sficonv.nn.report import ConversionReport, LayerReport
from sficonv.nn.sficonv import SFIConv2d, SpaceFreq, frequency_channels, frequency_size

__all__ = [
    "Complexity",
    "ConversionReport",
    "ConvertedModel",
    "FoldReport",
    "FoldedModel",
    "LayerReport",
    "MCSConv",
    "SFIBatchNorm2d",
    "SFIConv2d",
    "SpaceFreq",
    "complexity",
    "constrain",
    "convert",
    "fold",
    "frequency_channels",
    "frequency_size",
    "project_after_step",
]
