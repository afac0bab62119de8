"""The paper's figure 5: attention of detectors side by side, averages over more and more fakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from sficonv.attention.maps import average_attention, overlay
from sficonv.paper.attention.fakes import Fake, forged_pixels
from sficonv.paper.attention.look import Looked

INCHES = 2.0
"""Side of one picture in the figure."""


def mean_face(images: list[Tensor], side: int) -> np.ndarray:
    """The mean of face crops.

    Args:
        images: uint8 `(3, H, W)`, of any sizes.
        side: Of the result, in pixels.

    Returns:
        RGB `uint8` `(side, side, 3)`.

    Example:
        >>> mean_face([torch.full((3, 8, 8), 10, dtype=torch.uint8)], 4)[0, 0].tolist()
        [10, 10, 10]
    """
    resized = [
        F.interpolate(image[None].float(), size=(side, side), mode="bilinear", antialias=True)
        for image in images
    ]
    mean = torch.cat(resized).mean(dim=0).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(mean.permute(1, 2, 0).numpy())


def draw_figure(path: Path, looked: list[Looked], fakes: list[Fake], sizes: list[int]) -> Path:
    """Write the pictures of some detectors into one PNG file.

    One column for the faces and one for each detector. Rows: the first fake with its forgery attention map
    and its Grad-CAM, then for each size the mean of the first fakes with their AFAM (colours as in the
    paper: blue low, red high), then the mean Grad-CAM of the largest group. Where it is known, the forged
    region of the first fake is outlined.

    Args:
        path: Where to write.
        looked: One for each detector.
        fakes: In the order of the maps.
        sizes: Over how many fakes to average.

    Returns:
        `path`.
    """
    side = looked[0].maps["FAM"].shape[-1]
    first, most = mean_face([fakes[0].image], side), max(sizes)
    rows: list[tuple[str, np.ndarray, list[Tensor]]] = [
        ("FAM\none fake", first, [one.maps["FAM"][:1] for one in looked]),
        ("Grad-CAM\none fake", first, [one.maps["Grad-CAM"][:1] for one in looked]),
    ]
    for size in sizes:
        face = mean_face([fake.image for fake in fakes[:size]], side)
        rows.append(
            (f"AFAM\n{size} fakes", face, [average_attention(one.maps["FAM"][:size]) for one in looked])
        )
    cams = [average_attention(one.maps["Grad-CAM"][:most]) for one in looked]
    rows.append((f"mean Grad-CAM\n{most} fakes", mean_face([f.image for f in fakes[:most]], side), cams))

    figure = Figure(figsize=(INCHES * (1 + len(looked)), INCHES * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), 1 + len(looked), squeeze=False)
    for axes, (name, face, maps) in zip(grid, rows, strict=True):
        axes[0].set_ylabel(name, fontsize=8)
        for ax, picture in zip(axes, [face, *(overlay(face, one) for one in maps)], strict=True):
            ax.imshow(picture)
            ax.set(xticks=[], yticks=[])
    for ax, title in zip(grid[0], ["faces", *(one.label for one in looked)], strict=True):
        ax.set_title(title, fontsize=8, wrap=True)
    if fakes[0].mask is not None and fakes[0].mask.any():
        forged = forged_pixels(fakes[0].mask, side).float()
        for ax in grid[:2].flat:
            ax.contour(forged.numpy(), levels=[0.5], colors="white", linewidths=0.8)
    figure.savefig(path, dpi=150)
    return path
