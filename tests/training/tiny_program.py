"""The command line with a tiny detector that several devices can train as one: what `test_devices` starts.

It has neither batch norm, which counts over one device's batch, nor dropout, which each device draws anew.
"""

import sys

from torch import nn

from sficonv.cli import checks
from sficonv.cli.app import main
from sficonv.models import ModelConfig, registry


def tiny_detector(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, num_classes),
    )
    return model, ModelConfig("tiny_detector", image_size=32)


def tiny_with_batch_norm(*, num_classes: int = 2, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    model, _ = tiny_detector(num_classes=num_classes)
    model[1] = nn.BatchNorm2d(8)
    return model, ModelConfig("tiny_with_batch_norm", image_size=32)


registry._BUILDERS["tiny_detector"] = tiny_detector
registry._BUILDERS["tiny_with_batch_norm"] = tiny_with_batch_norm
checks.models = registry.list_models

if __name__ == "__main__":
    sys.exit(main())
