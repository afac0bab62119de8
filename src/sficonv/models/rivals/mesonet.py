"""Meso-Inception-4 (Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018).

Two forms are in use. `"port"` is the PyTorch port that the paper's Tables IV to VI compare with (its 28,525
parameters and 60.18 MMac are met exactly): no biases in the convolutions, no activation inside the
inception blocks, and one batch normalisation that serves both 5x5 convolutions. `"keras"` is the
original: biases and ReLU everywhere, a normalisation for each layer, one output, squared error.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model

Variant = Literal["port", "keras"]
WIDTHS = ((1, 4, 4, 2), (2, 4, 4, 2))
"""Channels of the four branches of each inception block."""


@register_model
def meso_inception4(*, image_size: int = 256, variant: Variant = "port") -> tuple[nn.Module, ModelConfig]:
    """Meso-Inception-4, see the module's text for `variant`; `image_size` is a multiple of 32."""
    if variant not in ("port", "keras"):
        raise ValueError(f"meso_inception4: variant must be 'port' or 'keras', got {variant!r}")
    if image_size < 32 or image_size % 32:
        raise ValueError(f"meso_inception4: image_size must be a multiple of 32, got {image_size}")
    if variant == "keras":  # RGB in [0, 1] as it is
        config = ModelConfig("meso_inception4", image_size=image_size, mean=(0, 0, 0), std=(1, 1, 1))
        return KerasMesoInception4(image_size), config
    config = ModelConfig("meso_inception4", image_size=image_size, mean=(0.5,) * 3, std=(0.5,) * 3)
    return MesoInception4(image_size), config


class MesoInception4(nn.Module):
    """The PyTorch port.

    Args:
        image_size: Side of the input, a multiple of 32: the first linear layer reads `16 * (side / 32) ** 2`.
    """

    def __init__(self, image_size: int = 256) -> None:
        super().__init__()
        first, second = (sum(widths) for widths in WIDTHS)
        self.inception1 = Inception(3, WIDTHS[0])
        self.norm1 = nn.BatchNorm2d(first)
        self.inception2 = Inception(first, WIDTHS[1])
        self.norm2 = nn.BatchNorm2d(second)
        self.conv1 = nn.Conv2d(second, 16, 5, padding=2, bias=False)
        self.conv2 = nn.Conv2d(16, 16, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(16)  # of both
        self.relu = nn.ReLU()
        self.pool, self.last_pool = nn.MaxPool2d(2), nn.MaxPool2d(4)
        self.dropout = nn.Dropout(0.5)
        self.fc1 = nn.Linear(16 * (image_size // 32) ** 2, 16)
        self.leaky_relu = nn.LeakyReLU(0.1)
        self.fc2 = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        x = self.pool(self.norm1(self.inception1(x)))
        x = self.pool(self.norm2(self.inception2(x)))
        x = self.pool(self.norm(self.relu(self.conv1(x))))
        x = self.last_pool(self.norm(self.relu(self.conv2(x))))
        x = self.leaky_relu(self.fc1(self.dropout(x.flatten(1))))
        return self.fc2(self.dropout(x))


class KerasMesoInception4(nn.Module):
    """The original, trained with the squared error of P(fake).

    Args:
        image_size: See `MesoInception4`.
    """

    uses_masks = False

    def __init__(self, image_size: int = 256) -> None:
        super().__init__()
        first, second = (sum(widths) for widths in WIDTHS)
        self.features = nn.Sequential(
            Inception(3, WIDTHS[0], bias=True, activation=nn.ReLU),
            _keras_norm(first),
            nn.MaxPool2d(2),
            Inception(first, WIDTHS[1], bias=True, activation=nn.ReLU),
            _keras_norm(second),
            nn.MaxPool2d(2),
            nn.Conv2d(second, 16, 5, padding=2),
            nn.ReLU(),
            _keras_norm(16),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 5, padding=2),
            nn.ReLU(),
            _keras_norm(16),
            nn.MaxPool2d(4),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.5),
            nn.Linear(16 * (image_size // 32) ** 2, 16),
            nn.LeakyReLU(0.1),
            nn.Dropout(0.5),
            nn.Linear(16, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`, whose softmax is the sigmoid of the one output."""
        half = self.classifier(self.features(x)) / 2
        return torch.cat((-half, half), dim=1)

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`."""
        target = labels.to(x.dtype) * (1 - label_smoothing) + label_smoothing / 2
        return {"squared_error": F.mse_loss(self(x).softmax(dim=1)[:, 1], target)}


def _keras_norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)  # its defaults; it calls this momentum 0.99


class Inception(nn.Module):
    """Four branches side by side: 1x1, then nothing, 3x3, or 3x3 with dilation 2 or 3.

    Args:
        in_channels: Channels of the input.
        widths: Channels of the branches; their sum goes out.
        bias: Whether the convolutions have one.
        activation: Follows every convolution; `None`: nothing does.
    """

    def __init__(
        self,
        in_channels: int,
        widths: tuple[int, int, int, int],
        *,
        bias: bool = False,
        activation: type[nn.Module] | None = None,
    ) -> None:
        super().__init__()

        def branch(width: int, dilation: int) -> nn.Sequential:
            layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 1, bias=bias)]
            if dilation:
                layers.append(nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=bias))
            if activation is None:
                return nn.Sequential(*layers)
            return nn.Sequential(*(part for layer in layers for part in (layer, activation())))

        self.branches = nn.ModuleList(branch(width, i) for i, width in enumerate(widths))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to `(B, sum(widths), H, W)`."""
        return torch.cat([branch(x) for branch in self.branches], dim=1)
