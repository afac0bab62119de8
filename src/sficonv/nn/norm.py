"""Batch normalisation of both branches."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.nn.execution import prefers_channels_last
from sficonv.nn.sficonv import SpaceFreq

Parts = tuple[Tensor | None, Tensor | None]
BatchNorm = Callable[..., Tensor]
"""Normalises as `torch.nn.functional.batch_norm` does, and takes what it takes."""


class SFIBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of both branches; channels have their own statistics, so the split changes nothing.

    Parameters and buffers are those of `nn.BatchNorm2d(num_features)` in the order `[spa | fre]`.

    Args:
        num_features: Channels of both branches together.
        fre_channels: How many of them are high-frequency.
        eps, momentum, affine, track_running_stats: As in `nn.BatchNorm2d`.

    Raises:
        ValueError: If `fre_channels` lies outside [0, num_features].

    Example:
        >>> bn = SFIBatchNorm2d(8, 2)
        >>> bn(SpaceFreq(torch.randn(2, 6, 8, 8), torch.randn(2, 2, 4, 4))).fre.shape
        torch.Size([2, 2, 4, 4])
    """

    def __init__(
        self,
        num_features: int,
        fre_channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        if not 0 <= fre_channels <= num_features:
            raise ValueError(
                f"SFIBatchNorm2d: fre_channels must lie in [0, {num_features}], got {fre_channels}"
            )
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.fre_channels = fre_channels
        self.batch_norm: BatchNorm = (
            F.batch_norm
        )  # in training; `conversion.synchronise` puts another one here
        self.after = nn.Sequential()  # drop-out and activation of a fused norm layer, where there was one

    @classmethod
    def from_norm(cls, norm: nn.BatchNorm2d, fre_channels: int) -> SFIBatchNorm2d:
        """Take over a batch normalisation (also timm's with a fused activation), sharing its tensors."""
        made = cls(
            norm.num_features, fre_channels, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
        )
        made.weight, made.bias = norm.weight, norm.bias
        made._buffers.update(norm._buffers)
        made.after.extend(
            [m for m in (getattr(norm, "drop", None), getattr(norm, "act", None)) if m is not None]
        )
        return made.train(norm.training)

    def forward(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:  # type: ignore[override]
        """Normalise `(B, C, H, W)` or a `SpaceFreq`; same shapes out."""
        if isinstance(x, SpaceFreq) and self._only_scales(x):
            return self._scale(x)
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        if isinstance(x, Tensor):
            whole = (self.running_mean, self.running_var, self.weight, self.bias)
            return self.after(self._normalise(x, *whole))
        mean, var, weight, bias = map(
            self._parts, (self.running_mean, self.running_var, self.weight, self.bias)
        )
        spa = self._normalise(x.spa, mean[0], var[0], weight[0], bias[0])
        fre = self._normalise(x.fre, mean[1], var[1], weight[1], bias[1])
        self._keep_statistics(mean, var)
        return SpaceFreq(self.after(spa), self.after(fre))

    def _parts(self, t: Tensor | None) -> Parts:
        """The entries of a parameter or a buffer for the spatial and for the high-frequency branch."""
        if t is None:
            return None, None
        spa, fre = t.split((self.num_features - self.fre_channels, self.fre_channels))
        return spa, fre

    def _keep_statistics(self, mean: Parts, var: Parts) -> None:
        """Write back the running statistics; not needed where `_parts` gave views of them."""

    def _only_scales(self, x: SpaceFreq) -> bool:
        """Whether `_scale` is enough, and faster: on the CPU, channels-last, with nothing to learn."""
        return (
            not (self.training or self.running_mean is None or torch.is_grad_enabled())
            and prefers_channels_last(x.spa)
            and x.spa.stride(1) == 1
            and x.spa.dtype == self.running_mean.dtype
        )

    def _scale(self, x: SpaceFreq) -> SpaceFreq:
        """Inference: one multiply-add, faster than `F.batch_norm` on small maps in this format."""
        mean, var = self.running_mean, self.running_var
        assert mean is not None and var is not None
        factor = torch.rsqrt(var + self.eps)
        if self.weight is not None:
            factor = factor * self.weight
        base = torch.zeros_like(factor) if self.bias is None else self.bias
        shift = self._parts(torch.addcmul(base, mean, factor, value=-1))
        scale = self._parts(factor)
        spa, fre = (
            self.after(torch.addcmul(b.view(-1, 1, 1), branch, a.view(-1, 1, 1)))  # type: ignore[union-attr]
            for branch, a, b in zip(x, scale, shift, strict=True)
        )
        return SpaceFreq(spa, fre)

    def _normalise(
        self, x: Tensor, mean: Tensor | None, var: Tensor | None, weight: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        if not x.shape[1]:
            return x
        momentum, batches = self.momentum, self.num_batches_tracked
        if momentum is None:  # a mean over all batches; before the first one it is not used
            momentum = 1.0 / int(batches) if batches else 1.0
        run = self.batch_norm if self.training else F.batch_norm
        return run(x, mean, var, weight, bias, self.training or mean is None, momentum, self.eps)
