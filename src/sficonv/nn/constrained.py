"""MCSConv: the multichannel constrained convolution that makes the high-frequency branch (paper, eq. 1)."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

MCSMode = Literal["reparam", "projected", "fixed", "none"]
"""How the constraint is kept; `"none"` leaves MCSConv out (the control experiment)."""

INITIAL_STD = 0.2  # 24 free weights: the random part has about the energy of the centre's -1


def constrain(weight: Tensor) -> Tensor:
    """Project kernels onto the constraint of eq. (1): centre -1, the other weights sum to 1.

    The Euclidean projection: each free weight moves by the same amount, `w_i = u_i + (1 - sum u) / n`.
    Unlike the usual division by the sum it never divides by a number near zero, and it leaves a kernel
    that satisfies the constraint already as it is.

    Args:
        weight: Kernels `(C, 1, k, k)`, k odd.

    Returns:
        Constrained kernels of the same shape; the centre of `weight` has no influence (and no gradient).

    Example:
        >>> constrain(torch.zeros(1, 1, 3, 3))[0, 0, 1, 1]
        tensor(-1.)
    """
    k = weight.shape[-1]
    # padded, not assigned to: a number that is copied to the device cannot be recorded in a CUDA graph
    centre = F.pad(weight.new_ones(1, 1), (k // 2,) * 4)
    free = 1 - centre
    shift = (1 - (weight * free).sum((-2, -1), keepdim=True)) / (k * k - 1)
    return (weight + shift) * free - centre


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of odd kernels that keeps the size, with a fast gradient on the CPU.

    The gradient of each kernel correlates its channel of the input with the gradient of the output. That is
    a depthwise convolution again, with images as kernels, and far faster than oneDNN's way.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, kernel = ctx.saved_tensors
        of_x = of_kernel = None
        if ctx.needs_input_grad[0]:
            of_x = _Depthwise.forward(gradient, kernel.flip(-1, -2))
        if ctx.needs_input_grad[1]:
            images, kernels = x.reshape(1, -1, *x.shape[-2:]), gradient.reshape(-1, 1, *x.shape[-2:])
            sums = F.conv2d(images, kernels, padding=kernel.shape[-1] // 2, groups=len(kernels))
            of_kernel = sums.view(len(x), *kernel.shape).sum(0)
        return of_x, of_kernel


def _has_slow_gradient(x: Tensor, kernel: Tensor) -> bool:
    trains = torch.is_grad_enabled() and kernel.requires_grad and not torch.compiler.is_compiling()
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return trains and on_cpu and x.is_contiguous()


class MCSConv(nn.Module):
    """Depthwise constrained convolution: one residual predictor per channel.

    Each kernel predicts the centre pixel from its neighbours and returns the error of the prediction,
    so flat regions give 0 and manipulation traces remain. It is followed by the layer's own k x k rows,
    which live in `SFIConv2d`.

    Args:
        channels: Number of input (and output) channels C.
        kernel_size: Odd side of the kernels, 5 in the paper.
        mode: How the constraint is kept:
            `"reparam"` (default): the free parameters are projected in every forward; the constraint holds
            at every instant and the gradient is exact. `"projected"`: the kernels themselves are trained
            and put back by `project_` after each optimiser step (see `project_after_step`). `"fixed"`:
            never trained, as in the authors' release.

    Raises:
        ValueError: If a channel number, kernel size or mode is not usable.

    Shape:
        `(B, C, H, W)` to `(B, C, H, W)`, zero padding.

    Example:
        >>> MCSConv(8)(torch.randn(1, 8, 16, 16)).shape
        torch.Size([1, 8, 16, 16])
    """

    def __init__(self, channels: int, kernel_size: int = 5, mode: MCSMode = "reparam") -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        if kernel_size < 3 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and at least 3, got {kernel_size}")
        if mode not in get_args(MCSMode) or mode == "none":
            raise ValueError(f"mode must be 'reparam', 'projected' or 'fixed', got {mode!r}")
        self.channels, self.kernel_size, self.mode = channels, kernel_size, mode
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel_size, kernel_size), mode != "fixed")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new kernels that satisfy the constraint."""
        with torch.no_grad():
            self.weight.copy_(constrain(torch.randn_like(self.weight) * INITIAL_STD))

    def kernel(self) -> Tensor:
        """The kernels the forward pass applies, `(C, 1, k, k)`."""
        return constrain(self.weight) if self.mode == "reparam" else self.weight

    @torch.no_grad()
    def project_(self) -> None:
        """Put the stored kernels back onto the constraint (needed in mode `"projected"`)."""
        self.weight.copy_(constrain(self.weight))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.kernel()
        if _has_slow_gradient(x, kernel):
            return _Depthwise.apply(x, kernel)
        return F.conv2d(x, kernel, padding=self.kernel_size // 2, groups=self.channels)

    def extra_repr(self) -> str:
        return f"{self.channels}, kernel_size={self.kernel_size}, mode={self.mode!r}"


def project_after_step(optimizer: Optimizer, model: nn.Module) -> RemovableHandle:
    """Keep the constraint of every `"projected"` MCSConv of `model` while `optimizer` trains it.

    A post-step hook, so it also holds under gradient scaling, clipping and distributed training.

    Args:
        optimizer: The optimiser that trains `model`.
        model: Any module; those without a projected MCSConv cost nothing.

    Returns:
        A handle whose `remove()` takes the hook away.

    Example:
        >>> mcs = MCSConv(4, mode="projected")
        >>> handle = project_after_step(torch.optim.SGD(mcs.parameters(), lr=0.1), mcs)
    """
    layers = [m for m in model.modules() if isinstance(m, MCSConv) and m.mode == "projected"]

    def project(*_: object) -> None:
        for layer in layers:
            layer.project_()

    return optimizer.register_step_post_hook(project)


def no_weight_decay(model: nn.Module) -> set[str]:
    """Names of the MCSConv kernels of a model, which weight decay must leave alone.

    Under the constraint the weights cannot all shrink: decay would pull every kernel towards the one with the
    smallest norm, a box filter. timm's optimiser factory takes the names from a model's own `no_weight_decay`
    or as `no_weight_decay_list`.

    Args:
        model: Any module, also one that holds a converted backbone.

    Returns:
        Names as in `model.named_parameters()`.

    Example:
        >>> sorted(no_weight_decay(nn.Sequential(nn.Conv2d(3, 4, 1), MCSConv(4))))
        ['1.weight']
    """
    kernels = {id(m.weight) for m in model.modules() if isinstance(m, MCSConv)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in kernels}
