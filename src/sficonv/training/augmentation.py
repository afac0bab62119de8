"""What both images of a pair go through alike: geometry, resolution, colours, blur, noise and codec.

The two get the same parameters, so that none of this says which is the forgery. Parameters differ from pair
to pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sficonv.media.batches import (
    Draw,
    affine,
    antialiased,
    change_colours,
    gaussian_blur,
    grow_matrix,
    jpeg,
    shrink_matrix,
    spread,
    warp,
)


@dataclass(frozen=True)
class PairAugmentation:
    """How strongly the pairs of a batch are changed.

    Args:
        zoom: Largest magnification of the crop. Crops come with a margin around the face; other tools cut
            closer, and a detector that has only seen loose crops takes real faces in close ones for forged.
        full: Share of pairs that keep the whole crop.
        rotation: Largest angle in radians.
        stretch: Largest change of the aspect ratio.
        smallest: Lowest resolution in pixels, of crops of 256.
        reduced: Share of pairs that lose resolution.
        colour, blur, noise, sharpen: Shares of pairs that are changed so.
        codec: Share of pairs that are encoded as JPEG, at the resolution they have then.
        twice: Share that is encoded twice.

    Example:
        >>> pair = torch.rand(2, 3, 64, 64) * 255
        >>> real, fake, mask = PairAugmentation()(pair, pair, torch.zeros(2, 1, 64, 64), Draw(1, "cpu"))
        >>> bool((real == fake).all())
        True
    """

    zoom: float = 2.0
    full: float = 0.2
    rotation: float = 0.12
    stretch: float = 0.06
    smallest: int = 80
    reduced: float = 0.6
    colour: float = 0.4
    blur: float = 0.15
    noise: float = 0.2
    sharpen: float = 0.1
    codec: float = 0.65
    twice: float = 0.15

    def __call__(self, real: Tensor, fake: Tensor, mask: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        """Change real faces, forgeries of them and the masks alike.

        Args:
            real, fake: Float `(B, 3, S, S)`, 0 to 255, S a multiple of 16.
            mask: Float `(B, 1, S, S)`.
            draw: Every random decision.

        Returns:
            The same three, whole numbers in the images.
        """
        count, size = len(real), real.shape[-1]
        zoom = torch.where(draw.chance(count, self.full), 1.0, draw.uniform(count, 1.0, self.zoom))
        room = (1 - 1 / zoom) / 2 + 0.02
        stretch = draw.uniform(count, 1 - self.stretch, 1 + self.stretch)
        flip = torch.where(draw.chance(count, 0.5), -1.0, 1.0)
        geometry = affine(
            flip * stretch / zoom,
            1 / zoom / stretch,
            draw.uniform(count, -1, 1) * room,
            draw.uniform(count, -1, 1) * room,
            draw.uniform(count, -self.rotation, self.rotation),
        )
        # the picture in the top left of a canvas: each pair has a resolution of its own, the batch one shape
        lowest = self.smallest / 256
        share = torch.where(draw.chance(count, self.reduced), draw.uniform(count, lowest, 1.0), 1.0)
        share = (share * size / 16).round().clamp(min=1) * 16 / size  # whole blocks of the codec
        both = torch.cat([real, fake], 1)
        both = warp(antialiased(both, 1 / (share * zoom), largest=1 / lowest), shrink_matrix(geometry, share))
        both = torch.cat([both[:, :3], both[:, 3:]])

        both = self._colours(both, draw, count)
        both = self._sharpness(both, draw, count)
        noisy = draw.chance(count, self.noise) * draw.uniform(count, 0.5, 6.0)
        both = (both + draw.normal(tuple(both.shape)) * spread(_two(noisy))).clamp(0, 255)
        both = self._codec(both, draw, count)

        pairs = torch.cat([both[:count], both[count:]], 1)
        back = grow_matrix(share)
        kinds = zip(draw.parts(count, (0.7, 0.3)), ("bilinear", "bicubic"), strict=True)
        grown = [warp(pairs[part], back[part], mode=mode) for part, mode in kinds if part.stop > part.start]
        pairs = torch.cat(grown)
        pairs = pairs.round().clamp(0, 255)
        return pairs[:, :3], pairs[:, 3:], warp(mask, geometry, outside="zeros")

    def _colours(self, both: Tensor, draw: Draw, count: int) -> Tensor:
        on = draw.chance(count, self.colour).float()
        return change_colours(
            both,
            gain=_two(1 + draw.uniform(count, -0.25, 0.25) * on),
            offset=_two(draw.uniform(count, -25, 25) * on),
            saturation=_two(1 + draw.uniform(count, -0.6, 0.4) * on),
            hue=_two(draw.uniform(count, -0.1, 0.1) * on),
            tint=_two(draw.uniform((count, 3), -10, 10) * on[:, None]),
        )

    def _sharpness(self, both: Tensor, draw: Draw, count: int) -> Tensor:
        """Blur some pairs and sharpen others."""
        kind = draw.uniform(count)
        blurred, sharpened = kind < self.blur, kind > 1 - self.sharpen
        soft = gaussian_blur(both, _two(draw.uniform(count, 0.3, 1.2)), largest=1.2)
        amount = blurred.float() - sharpened.float() * draw.uniform(count, 0.2, 1.0)
        return (both + spread(_two(amount)) * (soft - both)).clamp(0, 255)

    def _codec(self, both: Tensor, draw: Draw, count: int) -> Tensor:
        kind = draw.uniform(count)
        hard = kind < 0.3 * self.codec
        quality = torch.where(hard, draw.uniform(count, 30, 70), draw.uniform(count, 60, 100))
        coded = jpeg(both, _two(quality))
        on = spread(_two(kind < self.codec))
        both = torch.where(on, coded, both.round())
        again = jpeg(both, _two(draw.uniform(count, 50, 95)), halve_colours=False)
        return torch.where(spread(_two(kind < self.twice)), again, both)


def _two(values: Tensor) -> Tensor:
    """A parameter of each pair for both of its images, which lie one half of the batch apart."""
    return torch.cat([values, values])
