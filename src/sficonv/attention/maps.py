"""Where a detector looks: forgery attention maps (FAM), their average (AFAM), Grad-CAM, and numbers for them.

FAM and AFAM follow Wang & Deng, "Representative Forgery Mining for Fake Face Detection" (CVPR 2021), as
the paper's figure 5 uses them. FAM asks of every pixel how much it moves the verdict and needs no choice
of a layer; it is fine but noisy. Grad-CAM (Selvaraju et al., ICCV 2017) is as coarse as the last feature
map and shows only what speaks for fake.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules import pooling

POOLING = tuple(cls for name, cls in vars(pooling).items() if name.endswith(("Pool1d", "Pool2d", "Pool3d")))


def forgery_attention(model: nn.Module, x: Tensor) -> Tensor:
    """Forgery attention map: how strongly each pixel moves the verdict.

    `|d(logit_fake - logit_real) / dx|`, the largest of the channels, smoothed by halving the resolution
    and back (bilinear), then scaled per image to [0, 1].

    Args:
        model: Maps `x` to logits `(B, 2)`, 0 = real, 1 = fake, or to one logit `(B, 1)` for fake. Judged in
            eval mode and in at least 32 bits; left as it was.
        x: `(B, 3, H, W)`, float, as the model takes it (see `to_input`).

    Returns:
        `(B, 1, H, W)` in [0, 1], float32; zeros for an image whose pixels all matter alike.

    Raises:
        ValueError: If `x` or the logits have another shape.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2))
        >>> forgery_attention(model, torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 1, 8, 8])
    """
    with _differentiable(model, x) as (net, pixels):
        (gradient,) = torch.autograd.grad(_margin(net(pixels)).sum(), pixels)
    saliency = gradient.abs().amax(dim=1, keepdim=True).float()
    height, width = x.shape[-2:]
    half = F.interpolate(saliency, size=(max(1, height // 2), max(1, width // 2)), mode="bilinear")
    return _unit_range(F.interpolate(half, size=(height, width), mode="bilinear"))


def average_attention(maps: Tensor, *, flip: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Average forgery attention map (AFAM) of several fakes.

    Args:
        maps: `(B, 1, H, W)`, from `forgery_attention`.
        flip: Probability of mirroring each map left-right first, as the original code does with 0.5. The
            default mirrors none and needs no random numbers.
        generator: Source of the random flips; needed when `flip` lies between 0 and 1.

    Returns:
        `(1, 1, H, W)` in [0, 1]: the mean, scaled to [0, 1].

    Raises:
        ValueError: If there are no maps, their shape is another, or random flips lack a generator.

    Example:
        >>> average_attention(torch.rand(4, 1, 8, 8)).shape
        torch.Size([1, 1, 8, 8])
    """
    if maps.ndim != 4 or maps.shape[1] != 1 or not len(maps):
        raise ValueError(f"maps must be (B, 1, H, W) with B > 0, got {tuple(maps.shape)}")
    if not 0 <= flip <= 1:
        raise ValueError(f"flip must be a probability, got {flip}")
    if flip:
        if generator is None:
            raise ValueError("random flips need a generator, so that the result can be repeated")
        drawn = torch.rand(len(maps), 1, 1, 1, generator=generator, device=generator.device) < flip
        maps = torch.where(drawn.to(maps.device), maps.flip(-1), maps)
    return _unit_range(maps.mean(dim=0, keepdim=True))


def grad_cam(model: nn.Module, x: Tensor, layer: str | nn.Module | None = None) -> Tensor:
    """Grad-CAM of the verdict fake: the last feature map, its channels weighted by their mean gradient.

    Args:
        model: As for `forgery_attention`.
        x: `(B, 3, H, W)`, float, as the model takes it.
        layer: A module of the model, or its name in `model.named_modules()`, whose output is
            `(B, C, h, w)`. Default: the last feature map before the pooling.

    Returns:
        `(B, 1, H, W)` in [0, 1], float32; zeros where nothing speaks for fake.

    Raises:
        ValueError: If the layer is unknown, or has no `(B, C, h, w)` output on which the verdict depends.

    Example:
        >>> body = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        >>> model = nn.Sequential(*body, nn.Flatten(), nn.Linear(4, 2))
        >>> grad_cam(model, torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 1, 16, 16])
    """
    names = {module: name for name, module in model.named_modules()}
    name = names.get(layer) if isinstance(layer, nn.Module) else layer
    if layer is not None and name not in names.values():
        raise ValueError(f"grad_cam: the model has no layer {layer!r}")

    with _differentiable(model, x) as (net, pixels):
        features: list[Tensor] = []
        pooled: list[Tensor] = []

        def record(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(module, POOLING):
                pooled.append(output)
            elif isinstance(output, Tensor) and output.ndim == 4 and output.requires_grad:
                features.append(output)

        modules = list(net.modules()) if name is None else [net.get_submodule(name)]
        with warnings.catch_warnings():  # of a converted network some never run, which is no harm here
            warnings.simplefilter("ignore", UserWarning)
            handles = [module.register_forward_hook(record) for module in modules]
        try:
            margin = _margin(net(pixels)).sum()
        finally:
            for handle in handles:
                handle.remove()
        if name is None:  # a container that ends in a pooling layer hands out the pooled tensor itself
            features = [f for f in features if f.shape[-2:] != (1, 1) and all(f is not p for p in pooled)]
        for feature in reversed(features):
            (gradient,) = torch.autograd.grad(margin, feature, retain_graph=True, allow_unused=True)
            if gradient is not None:
                break
        else:
            where = "in the model" if name is None else f"from layer {name!r}"
            raise ValueError(f"grad_cam: no feature map (B, C, h, w) {where} that the verdict depends on")
    channels = gradient.mean(dim=(2, 3), keepdim=True)
    cam = (channels * feature).sum(dim=1, keepdim=True).relu().detach().float()
    return _unit_range(F.interpolate(cam, size=x.shape[-2:], mode="bilinear"))


def overlay(
    image: NDArray[np.uint8],
    attention: Tensor | NDArray[Any],
    *,
    strength: float = 0.5,
    colours: Literal["jet", "turbo"] = "jet",
) -> NDArray[np.uint8]:
    """Lay an attention map over its image as a heat map (blue low, red high).

    Args:
        image: RGB `uint8` `(H, W, 3)`.
        attention: One map in [0, 1], `(h, w)` or with leading axes of length 1; resized to the image.
        strength: Share of the heat map in the result, 0 to 1.
        colours: `"jet"`, as in the papers, or `"turbo"`, whose brightness is smoother.

    Returns:
        RGB `uint8` `(H, W, 3)`.

    Raises:
        ValueError: If the image or the map has another shape or type.

    Example:
        >>> overlay(np.zeros((8, 8, 3), np.uint8), np.ones((4, 4))).shape
        (8, 8, 3)
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"image must be uint8 (H, W, 3), got {image.dtype} {image.shape}")
    heat = cv2.resize(_one_map(attention).astype(np.float32), (image.shape[1], image.shape[0]))
    table = {"jet": cv2.COLORMAP_JET, "turbo": cv2.COLORMAP_TURBO}[colours]
    coloured = cv2.applyColorMap(np.rint(255 * heat.clip(0, 1)).astype(np.uint8), table)
    coloured = cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.addWeighted(image, 1 - strength, coloured, strength, 0), dtype=np.uint8)


def attention_numbers(
    attention: Tensor | NDArray[Any], mask: Tensor | NDArray[Any] | None = None
) -> dict[str, float]:
    """Measure how far a map spreads and where it lies, so that "expanded attention" is a number.

    Args:
        attention: One map in [0, 1], `(H, W)` or with leading axes of length 1.
        mask: Manipulated pixels (true or above 0), of the same size.

    Returns:
        `area_above_half`: share of pixels above 0.5. `entropy`: of the map taken as a distribution over
        pixels, 0 = one pixel, 1 = all alike. `centre_x`, `centre_y`: centre of mass, 0 = left or top edge,
        1 = right or bottom. With a mask `inside_mask`: share of the map's sum inside, and `mask_area`, what
        that share would be without any preference. `nan` where a map of zeros leaves them undefined.

    Raises:
        ValueError: If the map is not one map of finite values of at least 0, or the mask differs in size.

    Example:
        >>> attention_numbers(np.ones((4, 4)))["entropy"]
        1.0
    """
    values = _one_map(attention).astype(np.float64)
    if not np.isfinite(values).all() or (values < 0).any():
        raise ValueError("attention must hold finite values of at least 0")
    numbers = {"area_above_half": float((values > 0.5).mean())}
    total = values.sum()
    share = values / total if total else np.full_like(values, math.nan)
    some = share[share > 0]
    entropy = -(some * np.log(some)).sum() / math.log(values.size) if values.size > 1 else 0.0
    height, width = values.shape
    numbers["entropy"] = float(entropy) if total else math.nan
    numbers["centre_x"] = float((share.sum(axis=0) * (np.arange(width) + 0.5)).sum() / width)
    numbers["centre_y"] = float((share.sum(axis=1) * (np.arange(height) + 0.5)).sum() / height)
    if mask is not None:
        inside = _one_map(mask) > 0
        if inside.shape != values.shape:
            raise ValueError(f"mask is {inside.shape} and attention {values.shape}: resize the mask")
        numbers["inside_mask"] = float(share[inside].sum()) if total else math.nan
        numbers["mask_area"] = float(inside.mean())
    return numbers


def _margin(logits: Tensor) -> Tensor:
    """How much fake leads over real, `(B,)`; the softmax depends on nothing else."""
    if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] not in (1, 2):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the model must give logits (B, 2) or (B, 1), got {got}")
    return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits[:, 0]


def _unit_range(maps: Tensor) -> Tensor:
    """Scale each non-negative map to [0, 1]; a constant one becomes zeros."""
    low, high = maps.amin(dim=(1, 2, 3), keepdim=True), maps.amax(dim=(1, 2, 3), keepdim=True)
    # Resizing a constant map leaves rounding errors, which must not be stretched to a picture.
    constant = high - low <= 1e-6 * high
    return torch.where(constant, 0, (maps - low) / torch.where(constant, 1, high - low))


def _one_map(values: Tensor | NDArray[Any]) -> NDArray[Any]:
    array = values.detach().float().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim < 2 or array.size != array.shape[-1] * array.shape[-2] or not array.size:
        raise ValueError(f"expected one map (H, W), got {array.shape}")
    return array.reshape(array.shape[-2:])


@contextmanager
def _differentiable(model: nn.Module, x: Tensor) -> Iterator[tuple[nn.Module, Tensor]]:
    """The model in eval mode and the input as a leaf with a gradient, both in at least 32 bits.

    Gradients of 16-bit weights underflow, so those are judged in a copy. Inference mode must be left
    before the input is copied: its tensors cannot take part in a gradient.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"x must be float (B, 3, H, W), got {x.dtype} {tuple(x.shape)}")
    weight = next((p for p in model.parameters() if p.is_floating_point()), x)
    dtype = torch.promote_types(weight.dtype, torch.float32)
    modes = [(module, module.training) for module in model.modules()]
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        net = model if weight is x or dtype == weight.dtype else copy.deepcopy(model).to(dtype)
        pixels = x.detach().clone().to(weight.device, dtype).requires_grad_()
        net.eval()
        try:
            yield net, pixels
        finally:
            for module, mode in modes:  # parents come first, so every module ends in its own mode
                module.train(mode)
