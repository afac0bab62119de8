"""Multi-task detection and segmentation (Nguyen et al., "Multi-task Learning for Detecting and Segmenting
Manipulated Facial Images and Videos", BTAS 2019).

An autoencoder whose latent has one half for real and one for fake faces: the half that is more active is
the verdict. While it learns, the half of the true class is decoded twice: to a map of the forged pixels and
to the image itself. A verdict needs the encoder only.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.losses import default_masks
from sficonv.models.registry import register_model


@register_model
def multitask() -> tuple[nn.Module, ModelConfig]:
    """The published network and its three losses."""
    return MultiTask(), ModelConfig("multitask")


class MultiTask(nn.Module):
    """Encoder, and the decoder that trains it: a trunk with one head per task ("Y-shaped")."""

    uses_masks = True

    def __init__(self) -> None:
        super().__init__()
        widths = ((3, 8, 1), (8, 8, 2), (8, 16, 1), (16, 16, 2), (16, 32, 1), (32, 32, 2), (32, 64, 1))
        encoder = [_down(*width) for width in (*widths, (64, 64, 2), (64, 128, 1))]
        self.encoder = nn.Sequential(*(layer for block in encoder for layer in block))
        shared = [_up(*width) for width in ((128, 64, 1), (64, 64, 2), (64, 32, 1), (32, 32, 2))]
        self.shared = nn.Sequential(*(layer for block in shared for layer in block))
        self.segmenter, self.decoder = _head(2), _head(3)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 0.5, 0.02)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`: the mean activity of the latent's real and fake half."""
        return self.activity(self.encode(x))

    def encode(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to the latent `(B, 2, 64, H / 16, W / 16)`: its real half, its fake half."""
        return self.encoder(x).unflatten(1, (2, 64))

    @staticmethod
    def activity(latent: Tensor) -> Tensor:
        """The latent `(B, 2, 64, h, w)` to the mean absolute value of each half, `(B, 2)`."""
        return latent.abs().mean(dim=(2, 3, 4))

    def decode(self, latent: Tensor, classes: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Map of the forged pixels, and the image again.

        Args:
            latent: `(B, 2, 64, h, w)`, from `encode`.
            classes: `(B,)`, whose half is decoded: the true class while learning, the verdict later.
            size: `(H, W)` of the image.

        Returns:
            Logits `(B, 2, H, W)` of each pixel, 0 = untouched, 1 = forged; and the image `(B, 3, H, W)`,
            normalised, as far as [-1, 1] holds it.
        """
        chosen = latent * F.one_hot(classes, 2).to(latent.dtype)[:, :, None, None, None]
        trunk = self.shared(chosen.flatten(1, 2))
        height, width = size
        cut = (..., slice(height), slice(width))  # sides that are no multiple of 16 come out larger
        return self.segmenter(trunk)[cut], self.decoder(trunk).tanh()[cut]

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: activation (L1), segmentation, reconstruction, weights 1.

        The segmentation loss is a cross entropy of logits; the published code takes the logarithm of a
        softmax twice. A pixel counts as forged from a tenth of pasted content on.
        """
        latent = self.encode(x)
        segmentation, image = self.decode(latent, labels, x.shape[-2:])  # type: ignore[arg-type]
        wanted = F.one_hot(labels, 2).to(x.dtype) * (1 - label_smoothing) + label_smoothing / 2
        forged = (default_masks(labels, x) if masks is None else masks)[:, 0] > 0.1
        return {
            "activation": (self.activity(latent) - wanted).abs().sum(dim=1).mean(),
            "segmentation": F.cross_entropy(segmentation, forged.long()),
            "reconstruction": F.mse_loss(image, x),
        }


def _down(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _up(in_channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride, 1, output_padding=stride - 1)
    return [conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]


def _head(out_channels: int) -> nn.Sequential:
    blocks = [_up(*width) for width in ((32, 16, 1), (16, 16, 2), (16, 8, 1), (8, 8, 2))]
    layers = (layer for block in blocks for layer in block)
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, out_channels, 3, 1, 1))
