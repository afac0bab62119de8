"""Forging faces in batches, on the device: blending each with itself, or pasting another person's face.

Self-blended images (Shiohara and Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022): two
slightly different copies of one face are blended with a face-shaped mask, which leaves the traces that every
blend leaves and no others. The second kind pastes another person's face after aligning it and matching its
colours, as in Face X-ray (Li et al., CVPR 2020) and as face-swapping programs do.

Images are float `(B, 3, S, S)`, RGB, 0 to 255. Each forgery comes with the real image that it is a forgery
*of*: the two differ inside the mask and nowhere else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sficonv.faces.outlines import random_regions
from sficonv.faces.regions import place, soft_mask
from sficonv.media.batches import (
    Draw,
    affine,
    change_colours,
    gaussian_blur,
    jpeg,
    lower_resolution,
    spread,
    warp,
)

BLEND_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0)
PASTE_RATIOS = (0.75, 1.0, 1.0, 1.0)
KINDS = (0.33, 0.28, 0.15, 0.17, 0.07)  # sharper, lower resolution in two ways, JPEG, only other colours


class Forged(NamedTuple):
    """Real faces and forgeries of them.

    Args:
        real: Float `(B, 3, S, S)`.
        fake: The same outside the mask.
        mask: Float `(B, 1, S, S)` in [0, 1]: how much of a pixel is pasted.
    """

    real: Tensor
    fake: Tensor
    mask: Tensor


def shift_statistics(images: Tensor, draw: Draw) -> Tensor:
    """A colour shift of random strength, then one of sharpening, lower resolution and JPEG.

    The batch is cut into parts, one for each kind: let its order be random.
    """
    images = shift_colours(images, draw)
    sharp, bilinear, bicubic, coded, kept = (images[part] for part in draw.parts(len(images), KINDS))
    out = []
    if len(sharp):
        soft = gaussian_blur(sharp, draw.uniform(len(sharp), 0.7, 1.7), largest=1.7)
        out.append((sharp + spread(draw.uniform(len(sharp), 0.25, 1.0)) * (sharp - soft)).clamp(0, 255))
    for part, mode in ((bilinear, "bilinear"), (bicubic, "bicubic")):
        if len(part):
            out.append(lower_resolution(part, draw.uniform(len(part), 0.22, 0.8), mode=mode))
    if len(coded):
        out.append(jpeg(coded, draw.uniform(len(coded), 30, 95)))
    return torch.cat([*out, kept])


def shift_colours(images: Tensor, draw: Draw, strength: float = 1.0) -> Tensor:
    """Brightness, contrast, saturation, hue and tint changed by up to `strength`, each image by another
    share."""
    count = len(images)
    most = draw.uniform(count).clamp(max=0.9) / 0.9 * strength
    return change_colours(
        images,
        gain=1 + draw.uniform(count, -0.12, 0.12) * most,
        offset=draw.uniform(count, -15, 15) * most,
        saturation=1 + draw.uniform(count, -0.25, 0.25) * most,
        hue=draw.uniform(count, -0.12, 0.12) * most,
        tint=draw.uniform((count, 3), -14, 14) * most[:, None],
    )


def self_blend(images: Tensor, outlines: Tensor, draw: Draw, *, change_target: float = 0.5) -> Forged:
    """Forge each face with itself (Shiohara and Yamasaki 2022, section 3).

    Args:
        images: Float `(B, 3, S, S)`, real faces.
        outlines: `(B, N, 2)`, the regions to forge, see `sficonv.faces.outlines.random_regions`.
        draw: Every random decision.
        change_target: Share whose surroundings get the other statistics instead of the pasted copy; `real` is
            changed with them.
    """
    count, size = len(images), images.shape[-1]
    changed = shift_statistics(images, draw)
    source_changes = spread(~draw.chance(count, change_target))
    source = torch.where(source_changes, changed, images)
    target = torch.where(source_changes, images, changed)
    moved = affine(
        draw.uniform(count, 0.95, 1.05),
        draw.uniform(count, 0.95, 1.05),
        draw.uniform(count, -0.06, 0.06),
        draw.uniform(count, -0.06, 0.06),
    )
    mask = place(soft_mask(outlines, size, draw), moved) * spread(draw.among(count, BLEND_RATIOS))
    return Forged(target, target + mask * (warp(source, moved) - target), mask)


def paste(
    images: Tensor, outlines: Tensor, landmarks: Tensor, donors: Tensor, donor_landmarks: Tensor, draw: Draw
) -> Forged:
    """Paste another person's face over each face: aligned by landmarks, colours matched inside the mask.

    Args:
        images: Float `(B, 3, S, S)`, the faces that are covered.
        outlines: `(B, N, 2)`, the regions to forge.
        landmarks: `(B, L, 2)` of `images`, in units of the image's side.
        donors: Float `(B, 3, S, S)`, the faces that are pasted.
        donor_landmarks: `(B, L, 2)` of `donors`.
        draw: Every random decision.
    """
    count, size = len(images), images.shape[-1]
    third = count // 3
    if third:  # the pasted face often comes from a generator of lower resolution
        soft = lower_resolution(donors[:third], draw.uniform(third, 0.22, 0.8), mode="bicubic")
        donors = torch.cat([soft, donors[third:]])
    matrices = _similarity(landmarks, donor_landmarks)
    source = warp(donors, matrices)
    inside = place(torch.ones_like(images[:, :1]), matrices)
    mask = soft_mask(outlines, size, draw) * inside
    source = _match_colours(source, images, mask)
    source = torch.cat([source[: count // 2], shift_colours(source[count // 2 :], draw, 0.35)])
    mask = mask * spread(draw.among(count, PASTE_RATIOS))
    return Forged(images, images + mask * (source - images), mask)


def _similarity(points: Tensor, onto: Tensor) -> Tensor:
    """Matrices `(B, 2, 3)` of the similarity that maps `points` onto the points `onto`, by least squares, for
    `warp`; both `(B, L, 2)` in units of the image's side."""
    p, q = 2 * points.float() - 1, 2 * onto.float() - 1
    centre_p, centre_q = p.mean(1), q.mean(1)
    p, q = p - centre_p[:, None], q - centre_q[:, None]
    size = (p**2).sum((1, 2)).clamp(min=1e-9)
    same = (p * q).sum((1, 2)) / size
    turn = (p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]).sum(1) / size
    linear = torch.stack([torch.stack([same, -turn], 1), torch.stack([turn, same], 1)], 1)
    shift = centre_q - (linear @ centre_p[:, :, None])[..., 0]
    return torch.cat([linear, shift[:, :, None]], 2)


def _match_colours(source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Give `source` the mean and spread that `target` has inside the mask (Reinhard et al. 2001, in RGB)."""
    weight = mask.clamp(min=1e-6)
    total = weight.sum((2, 3), keepdim=True)

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        mean = (x * weight).sum((2, 3), keepdim=True) / total
        return mean, (((x - mean) ** 2 * weight).sum((2, 3), keepdim=True) / total).sqrt()

    (mean, spread_), (to_mean, to_spread) = moments(source), moments(target)
    gain = (to_spread / spread_.clamp(min=1)).clamp(0.6, 1.6)
    return ((source - mean) * gain + to_mean).clamp(0, 255)


def forge_one(
    image: np.ndarray, landmarks: np.ndarray, *, seed: int, change_target: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """`self_blend` for a single crop.

    Args:
        image: uint8 `(S, S, 3)`, RGB, a real face.
        landmarks: `(5, 2)` or `(68, 2)` pixels, see `sficonv.faces.outlines.random_regions`.
        seed: Decides everything random.
        change_target: See `self_blend`; 0 keeps everything outside of the mask as it is.

    Returns:
        The forgery, uint8 `(S, S, 3)`, and its mask, float32 `(S, S)` in [0, 1].

    Example:
        >>> face = np.full((64, 64, 3), 128, np.uint8)
        >>> forgery, mask = forge_one(face, np.full((5, 2), np.nan), seed=1)
        >>> forgery.shape, mask.shape
        ((64, 64, 3), (64, 64))
    """
    outline = random_regions(landmarks / len(image), 1, 1, np.random.default_rng(seed))
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    _, fake, mask = self_blend(
        pixels, torch.from_numpy(outline), Draw(seed, "cpu"), change_target=change_target
    )
    whole = fake[0].round().clamp(0, 255).permute(1, 2, 0)
    return whole.to(torch.uint8).numpy(), mask[0, 0].numpy()
