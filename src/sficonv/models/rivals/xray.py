"""Face X-ray (Li et al., "Face X-ray for more general face forgery detection", CVPR 2020).

A pasted face has a boundary where it was blended in. A high-resolution network draws it, and the verdict is
read from the drawing. It is meant to be trained on forgeries made on the fly, whose masks are known exactly
(`sficonv train --self-blend 1 --cross-blend 1`): donors with similar landmarks, corrected colours, deformed
masks.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.losses import default_masks
from sficonv.models.registry import register_model

WEIGHT = 1000.0
"""Of the boundary in the loss."""
SOFTEN = 9
"""Side, in pixels, of the window that masks are averaged over."""


def xray_of(masks: Tensor) -> Tensor:
    """The blending boundary of soft masks: `4 M (1 - M)`, 1 where half of a pixel is pasted.

    Args:
        masks: In [0, 1], any shape.

    Example:
        >>> xray_of(torch.tensor([0.0, 0.5, 1.0]))
        tensor([0., 1., 0.])
    """
    return 4 * masks * (1 - masks)


class FaceXray(nn.Module):
    """HRNet, the map of the boundary from all its resolutions, and a classifier of the map's mean.

    Args:
        trunk: A high-resolution network of timm.
        pretrained: Start it from ImageNet weights.

    Example:
        >>> FaceXray("hrnet_w18_small").eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = True

    def __init__(self, trunk: str = "hrnet_w48", pretrained: bool = False) -> None:
        super().__init__()
        if not trunk.startswith("hrnet_") or not timm.is_model(trunk):
            raise ValueError(f"face_xray: trunk must be a high-resolution network of timm, got {trunk!r}")
        self.trunk = timm.create_model(
            trunk, pretrained=pretrained, features_only=True, feature_location="", out_indices=(1, 2, 3, 4)
        )
        channels = sum(self.trunk.feature_info.channels())  # type: ignore[operator, union-attr]
        self.draw = nn.Sequential(
            nn.Conv2d(channels, 256, 1, bias=False), nn.BatchNorm2d(256), nn.ReLU(), nn.Conv2d(256, 1, 1)
        )
        self.classify = nn.Linear(1, 2)
        with torch.no_grad():  # a boundary covers a few hundredths of an image: see `face_xray`
            self.classify.weight.copy_(torch.tensor([[-20.0], [20.0]]))
            self.classify.bias.copy_(torch.tensor([0.5, -0.5]))
            nn.init.constant_(self.draw[-1].bias, -3.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        return self.verdict(self.boundary(x))

    def boundary(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to the logits of the X-ray `(B, 1, H, W)`, drawn at a quarter of the size."""
        maps = self.trunk(x)
        size = maps[0].shape[-2:]
        finest = [F.interpolate(m, size=size, mode="bilinear", align_corners=False) for m in maps[1:]]
        drawn = self.draw(torch.cat([maps[0], *finest], 1))
        return F.interpolate(drawn, size=x.shape[-2:], mode="bilinear", align_corners=False)

    def verdict(self, boundary: Tensor) -> Tensor:
        """The logits of the X-ray to logits `(B, 2)`."""
        return self.classify(boundary.sigmoid().mean((2, 3)))

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: the boundary (weight 1000) and the verdict, cross entropies.

        A fake whose mask has no boundary (nobody knows what was pasted, or the whole image was made) has no
        part in the first.
        """
        boundary = self.boundary(x)
        masks = default_masks(labels, x) if masks is None else masks
        wanted = xray_of(F.avg_pool2d(masks, SOFTEN, 1, SOFTEN // 2, count_include_pad=False))
        known = (labels == 0) | (wanted.amax((1, 2, 3)) > 0.05)
        each = F.binary_cross_entropy_with_logits(boundary, wanted, reduction="none").mean((1, 2, 3))
        return {
            "boundary": WEIGHT * (each * known).sum() / known.sum().clamp(min=1),
            "cross_entropy": F.cross_entropy(self.verdict(boundary), labels, label_smoothing=label_smoothing),
        }


@register_model
def face_xray(*, pretrained: bool = False, trunk: str = "hrnet_w48") -> tuple[nn.Module, ModelConfig]:
    """Face X-ray.

    As we know the paper, whose text was not at hand: HRNet, a 1x1 convolution, the map brought to the image's
    size, its mean and one linear layer; cross entropies of both, the boundary's with weight 1000. There is no
    official code. Chosen here: HRNet-W48, because the public re-implementation takes it; a hidden layer of
    256 before the map, as HRNet's own heads have one; masks are averaged over 9 pixels first, because the
    boundary of a hard mask is nowhere; and the classifier starts where a mean of 0.025 is undecided, because
    the means of maps differ by hundredths and it would take long to get there.
    """
    return FaceXray(trunk, pretrained), ModelConfig("face_xray")
