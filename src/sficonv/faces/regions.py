"""Soft masks of the part of a face that is forged, on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sficonv.media.batches import Draw, affine, gaussian_blur, spread, warp


def fill(outlines: Tensor, size: int) -> Tensor:
    """Masks of convex outlines.

    Args:
        outlines: `(B, N, 2)`, clockwise on screen, in units of the image's side.
        size: Side of the masks in pixels.

    Returns:
        Float `(B, 1, size, size)`: 1 inside, 0 outside.
    """
    at = (torch.arange(size, device=outlines.device) + 0.5) / size
    start, edge = outlines, outlines.roll(-1, 1) - outlines
    # the side of the line through an edge on which a pixel lies: x- and y-parts are added up by broadcasting
    across = edge[..., 0, None] * (at - start[..., 1, None])
    along = edge[..., 1, None] * (at - start[..., 0, None])
    inside = (across[:, :, :, None] - along[:, :, None, :] >= -1e-9).all(1)
    return inside[:, None].to(outlines.dtype)


def soft_mask(outlines: Tensor, size: int, draw: Draw) -> Tensor:
    """Deformed soft masks of regions: moved and scaled a little, bent elastically, then blurred, cut to their
    core and blurred again with another strength (Shiohara and Yamasaki 2022, section 3.1.2).

    Args:
        outlines: `(B, N, 2)`, see `outlines.random_regions`.
        size: Side of the masks in pixels. They are made at half of it.
        draw: Every random decision.

    Returns:
        Float `(B, 1, size, size)` in [0, 1].
    """
    count, half = len(outlines), size // 2
    moved = affine(
        draw.uniform(count, 0.92, 1.08),
        draw.uniform(count, 0.92, 1.08),
        draw.uniform(count, -0.04, 0.04),
        draw.uniform(count, -0.04, 0.04),
    )
    grid = F.affine_grid(moved, [count, 1, half, half], align_corners=False)
    bend = F.interpolate(
        draw.normal((count, 2, 6, 6)) * 0.035, (half, half), mode="bicubic", align_corners=False
    )
    mask = F.grid_sample(fill(outlines, half), grid + bend.permute(0, 2, 3, 1), align_corners=False)
    unit = half / 128  # the strengths below are those of masks of 128 px
    core = (gaussian_blur(mask, draw.uniform(count, 0.3, 5.0) * unit, largest=5 * unit) > 0.97).to(mask.dtype)
    holds = spread((core.sum((1, 2, 3)) > 150 * unit**2).to(mask.dtype))
    mask = core * holds + (mask > 0.5).to(mask.dtype) * (1 - holds)
    mask = gaussian_blur(mask, draw.uniform(count, 0.3, 5.5) * unit, largest=5.5 * unit).clamp(0, 1)
    return F.interpolate(mask, (size, size), mode="bilinear", align_corners=False)


def place(mask: Tensor, matrices: Tensor) -> Tensor:
    """A mask read through an affine map; nothing lies outside of it."""
    return warp(mask, matrices, outside="zeros")
