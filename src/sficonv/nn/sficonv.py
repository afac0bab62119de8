"""SFIConv: a vanilla convolution's weight, executed on two resolutions (paper, section III-C)."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.nn.constrained import MCSConv, MCSMode
from sficonv.nn.frozen import FrozenValue
from sficonv.nn.memory_format import for_branches, for_network, format_of_blocks
from sficonv.nn.sampling import (
    Size,
    add,
    add_upsampled,
    average_pool,
    conv_size,
    resize,
    sampled_conv2d,
    samples_cheaply,
    strided_conv2d,
    with_samples,
)

Ratio = float | Fraction
Downsample = Literal["strided", "avgpool"]


class SpaceFreq(NamedTuple):
    """Features on their way between two SFIConv layers at beta < 1.

    Args:
        spa: Spatial branch `(B, C - C_fre, H, W)`.
        fre: High-frequency branch `(B, C_fre, h, w)` with `h = frequency_size(H, beta)`.
    """

    spa: Tensor
    fre: Tensor


class _Blocks(NamedTuple):
    """The blocks of a kernel, contiguous: the convolution would copy them at every call otherwise."""

    from_spa: Tensor  # [S->S; S->F]
    from_fre: Tensor  # [F->S; F->F]
    bias: Tensor | None


def frequency_channels(channels: int, alpha: Ratio) -> int:
    """Channels of the high-frequency branch, `int(alpha * channels)`; the spatial branch has the rest.

    Example:
        >>> frequency_channels(32, 0.2)
        6
    """
    return int(alpha * channels)


def frequency_size(size: int, beta: Ratio) -> int:
    """Side of the high-frequency branch for a spatial branch of side `size`; never below 1.

    Example:
        >>> frequency_size(7, 0.5), frequency_size(1, 0.25)
        (3, 1)
    """
    return max(1, int(beta * size))


def check_ratio(name: str, value: Ratio, *, where: str = "SFIConv2d", zero: bool = True) -> None:
    """Raise a `ValueError` that names the argument and the layer unless `value` lies in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise ValueError(f"{where}: {name} must be a number in [0, 1], got {value!r}")
    if not 0 <= value <= 1 or (value == 0 and not zero):
        raise ValueError(f"{where}: {name} must lie in {'[0, 1]' if zero else '(0, 1]'}, got {value!r}")


class SFIConv2d(nn.Conv2d):
    """A convolution whose channels are split into a spatial and a high-frequency branch.

    Concatenate the branches as `[spa | fre]`. Then the four convolutions of Stage 2 (eq. 2) are the four
    blocks of one kernel `weight[c_out, c_in, k, k]`, Stage 3 (eq. 7) is the same kernel with all outputs
    spatial, and Stage 1 is the same kernel whose `fre` rows read the input filtered by MCSConv. So the
    parameters are those of `nn.Conv2d` whatever alpha and beta are: they change the execution only, and a
    pretrained kernel is used as it is.

    | stage | alpha_in | alpha_out | input | output |
    |---|---|---|---|---|
    | 1, generation | 0 | > 0 | tensor | branches |
    | 2, interaction | > 0 | > 0 | branches | branches |
    | 3, fusion | > 0 | 0 | branches | tensor |
    | none (vanilla) | 0 | 0 | tensor | tensor |

    At beta = 1 both branches have one resolution and travel as one tensor `[spa | fre]`; Stages 2 and 3
    are then a single `F.conv2d`. At beta < 1 they travel as `SpaceFreq`, and the resizing after the
    convolution (eq. 8) is done by computing only the positions that it keeps. On the CPU the branches
    travel in the channels-last memory format, whatever the network's own format is: small maps are up to
    twice as fast in it. Stage 3 returns to the format of its weight.

    Args:
        in_channels: Channels of both input branches together.
        out_channels: Channels of both output branches together.
        kernel_size, stride, padding, dilation, groups, bias: As in `nn.Conv2d`. A grouped (depthwise)
            convolution keeps to its branch, so the branches must meet at a group's border.
        alpha_in: Share of the input channels that are high-frequency, a rational number in [0, 1].
        alpha_out: Share of the output channels that are high-frequency.
        beta: Resolution of the high-frequency branch relative to the spatial one, in [0, 1]; at 0 it is one
            value per channel.
        mcs_mode: How Stage 1's MCSConv keeps its constraint (see `MCSConv`), or `"none"` to leave it out.
        downsample: What stride means: `"strided"` as in `nn.Conv2d`, or `"avgpool"`: average pooling of
            both branches, then stride 1 (the authors' form).
        name: The layer's name, for error messages.

    Raises:
        ValueError: If an argument is out of range; the message names the argument and the layer.

    Example:
        >>> stage1 = SFIConv2d(16, 32, 3, padding=1, alpha_in=0, alpha_out=0.25, beta=0.5)
        >>> spa, fre = stage1(torch.randn(1, 16, 8, 8))
        >>> spa.shape, fre.shape
        (torch.Size([1, 24, 8, 8]), torch.Size([1, 8, 4, 4]))
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Size,
        stride: int | Size = 1,
        padding: int | Size = 0,
        dilation: int | Size = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        alpha_in: Ratio,
        alpha_out: Ratio,
        beta: Ratio = 1.0,
        mcs_mode: MCSMode = "reparam",
        downsample: Downsample = "strided",
        name: str = "SFIConv2d",
    ) -> None:
        for argument, count in (
            ("in_channels", in_channels),
            ("out_channels", out_channels),
            ("groups", groups),
        ):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"{name}: {argument} must be a positive integer, got {count!r}")
        for argument, c in (("in_channels", in_channels), ("out_channels", out_channels)):
            if c % groups:
                raise ValueError(f"{name}: {argument}={c} is not divisible by groups={groups}")
        check_ratio("alpha_in", alpha_in, where=name)
        check_ratio("alpha_out", alpha_out, where=name)
        check_ratio("beta", beta, where=name)
        if mcs_mode not in get_args(MCSMode):
            raise ValueError(f"{name}: mcs_mode must be one of {get_args(MCSMode)}, got {mcs_mode!r}")
        if downsample not in get_args(Downsample):
            raise ValueError(f"{name}: downsample must be one of {get_args(Downsample)}, got {downsample!r}")
        if isinstance(padding, str):
            raise ValueError(f"{name}: padding must be given as numbers, got {padding!r}")
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias)
        self.alpha_in, self.alpha_out, self.beta, self.downsample, self.name = (
            alpha_in, alpha_out, beta, downsample, name,
        )  # fmt: skip
        self.fre_in = frequency_channels(in_channels, alpha_in)
        self.fre_out = frequency_channels(out_channels, alpha_out)
        self.spa_in, self.spa_out = in_channels - self.fre_in, out_channels - self.fre_out
        self.conv_stride: Size = (1, 1) if downsample == "avgpool" else self.stride  # type: ignore[assignment]
        if groups > 1:
            self._check_groups()
        self._frozen_blocks = FrozenValue[_Blocks]()
        self.mcs: MCSConv | None = None
        if self.stage == 1 and mcs_mode != "none":
            self.mcs = MCSConv(self._trace_channels, mode=mcs_mode)

    @property
    def stage(self) -> int | None:
        """1 generation, 2 interaction, 3 fusion, None where no branch takes part."""
        if self.fre_in == 0:
            return 1 if self.fre_out else None
        return 2 if self.fre_out else 3

    @property
    def _trace_channels(self) -> int:
        """Input channels that Stage 1's `fre` rows read: all of them, or those of their own groups."""
        return self.in_channels if self.groups == 1 else self.fre_out * self.in_channels // self.out_channels

    def _check_groups(self) -> None:
        per_in, per_out = self.in_channels // self.groups, self.out_channels // self.groups
        aligned = self.fre_out % per_out == 0 and (
            self.stage in (1, None) or self.fre_in * per_out == self.fre_out * per_in
        )
        if not aligned and (self.beta != 1 or self.stage == 1):
            raise ValueError(
                f"{self.name}: groups={self.groups} cross the border between the branches "
                f"(alpha_in={self.alpha_in}, alpha_out={self.alpha_out}); "
                "choose alpha so that both shares hold whole groups"
            )

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as applied, channels in the order `[spa | fre]`; a subclass may derive them."""
        return self.weight, self.bias

    def forward(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:  # type: ignore[override]
        """Run the layer's stage.

        Args:
            x: `(B, in_channels, H, W)`; at beta < 1 Stages 2 and 3 take a `SpaceFreq`.

        Returns:
            `(B, out_channels, H', W')`; at beta < 1 Stages 1 and 2 give a `SpaceFreq`.
        """
        if self.downsample == "avgpool" and self.stride != (1, 1):
            x = self._pool(x)
        if isinstance(x, Tensor):
            if self.stage == 1:
                return self._generate(x)
            if self.stage is None or self.beta == 1:
                return self._conv2d(x, *self.kernel(), self.groups)
            raise TypeError(
                f"{self.name}: Stage {self.stage} at beta={self.beta} takes a SpaceFreq, got a tensor"
            )
        if self.groups > 1:
            return self._interact_grouped(x)
        return self._interact(x)

    def _pool(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:
        if isinstance(x, Tensor):
            return average_pool(x, self.stride)  # type: ignore[arg-type]
        return SpaceFreq(*(average_pool(t, self.stride) for t in x))  # type: ignore[arg-type]

    def _conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
        return strided_conv2d(x, weight, bias, self.conv_stride, self.padding, self.dilation, groups)  # type: ignore[arg-type]

    def _biases(self, bias: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        return (None, None) if bias is None else (bias[: self.spa_out], bias[self.spa_out :])

    def _out_size(self, x: Tensor) -> Size:
        kernel, padding, dilation = self.kernel_size, self.padding, self.dilation
        return conv_size(tuple(x.shape[-2:]), kernel, self.conv_stride, padding, dilation)  # type: ignore[arg-type]

    def _fre_size(self, spa_size: Size) -> Size:
        return frequency_size(spa_size[0], self.beta), frequency_size(spa_size[1], self.beta)

    def _sampled(self, x: Tensor, weight: Tensor, bias: Tensor | None, size: Size, groups: int = 1) -> Tensor:
        return sampled_conv2d(
            x, weight, bias, size,
            stride=self.conv_stride, padding=self.padding, dilation=self.dilation, groups=groups,  # type: ignore[arg-type]
        )  # fmt: skip

    def _generate(self, x: Tensor) -> Tensor | SpaceFreq:
        """Stage 1: spatial rows read the input, high-frequency rows its trace maps."""
        if self.mcs is None and self.beta == 1:
            return self._conv2d(x, *self.kernel(), self.groups)
        weight, bias = self.kernel()
        bias_spa, bias_fre = self._biases(bias)
        weight_spa, weight_fre = weight[: self.spa_out], weight[self.spa_out :]
        size = self._out_size(x)
        fre_size = self._fre_size(size)
        groups_fre = self.fre_out * self.groups // self.out_channels if self.groups > 1 else 1
        groups_spa = self.groups - groups_fre if self.groups > 1 else 1
        for_spa, for_fre = x, x
        if self.groups > 1:
            border = self.in_channels - self._trace_channels
            for_spa, for_fre = x[:, :border], x[:, border:]
        if self.spa_out:
            spa = self._conv2d(for_spa, weight_spa, bias_spa, groups_spa)
        else:
            spa = x.new_empty(x.shape[0], 0, *size)
        fre = self._generate_fre(for_fre, weight_fre, bias_fre, fre_size, groups_fre)
        if self.beta == 1:
            return torch.cat((spa, fre), 1)
        return SpaceFreq(for_branches(spa), for_branches(fre))

    def _generate_fre(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, size: Size, groups: int
    ) -> Tensor:
        if self.mcs is None:
            return self._sampled(x, weight, bias, size, groups)
        if self.kernel_size == (1, 1) and self.padding == (0, 0) and self.conv_stride == (1, 1):
            # a 1 x 1 kernel reads the trace maps only at the positions that remain
            pad = self.mcs.kernel_size // 2
            trace = sampled_conv2d(
                x, self.mcs.kernel(), None, size, padding=(pad, pad), groups=self.mcs.channels
            )
            return F.conv2d(trace, weight, bias, groups=groups)
        return self._sampled(self.mcs(x), weight, bias, size, groups)

    def _interact(self, x: SpaceFreq) -> Tensor | SpaceFreq:
        """Stage 2 (eq. 4, 5, 8), and Stage 3 (eq. 7) where no output is high-frequency."""
        spa, fre = x
        blocks = self._blocks()
        size = self._out_size(spa)
        fre_size = self._fre_size(size)
        # F->S and F->F share their input: one convolution
        spa_out, fre_out = self._conv2d(fre, blocks.from_fre, None).split((self.spa_out, self.fre_out), 1)
        fre_out = resize(fre_out, fre_size)
        if self.spa_in:
            to_spa, to_fre = self._from_spa(spa, blocks, size, fre_size)
            spa_out = add_upsampled(to_spa, spa_out)
            fre_out = fre_out if to_fre is None else add(to_fre, fre_out)
        else:
            bias_spa, bias_fre = self._biases(blocks.bias)
            spa_out = resize(spa_out, size)
            if bias_spa is not None and bias_fre is not None:
                spa_out, fre_out = spa_out + bias_spa[:, None, None], fre_out + bias_fre[:, None, None]
        return SpaceFreq(spa_out, fre_out) if self.fre_out else for_network(spa_out, self.weight)

    def _from_spa(
        self, spa: Tensor, blocks: _Blocks, size: Size, fre_size: Size
    ) -> tuple[Tensor, Tensor | None]:
        """T_S->S, and T_S->F at its final size where there is one."""
        if not self.fre_out:
            return self._conv2d(spa, blocks.from_spa, blocks.bias), None
        if not samples_cheaply(size, fre_size, self.kernel_size, self.padding):  # type: ignore[arg-type]
            # everything is computed before anything is dropped: one convolution for both
            both = self._conv2d(spa, blocks.from_spa, blocks.bias)
            to_spa, to_fre = both.split((self.spa_out, self.fre_out), 1)
            return to_spa, resize(to_fre, fre_size)
        bias_spa, bias_fre = self._biases(blocks.bias)
        weight_spa, weight_fre = blocks.from_spa.split((self.spa_out, self.fre_out), 0)
        if self.kernel_size == (1, 1) and self.padding == (0, 0) and self.conv_stride == (1, 1):
            spa, samples = with_samples(spa, fre_size)
            return F.conv2d(spa, weight_spa, bias_spa), F.conv2d(samples, weight_fre, bias_fre)
        return self._conv2d(spa, weight_spa, bias_spa), self._sampled(spa, weight_fre, bias_fre, fre_size)

    def _blocks(self) -> _Blocks:
        """The kernel in blocks; copied once, not at every call, where nothing trains."""
        if self.training:
            return self._split_kernel()
        own = [t for t in (*self._parameters.values(), *self._buffers.values()) if t is not None]
        return self._frozen_blocks.of(own, self._split_kernel)

    def _split_kernel(self) -> _Blocks:
        weight, bias = self.kernel()
        # split, not slices: its gradient is one copy, theirs a map of zeros for each
        from_spa, from_fre = weight.split((self.spa_in, self.fre_in), 1)
        layout = format_of_blocks(weight)
        return _Blocks(
            from_spa.contiguous(memory_format=layout), from_fre.contiguous(memory_format=layout), bias
        )

    def train(self, mode: bool = True) -> SFIConv2d:
        """Switch between training and evaluation, as `nn.Module` does."""
        self._frozen_blocks.forget()
        return super().train(mode)

    def _interact_grouped(self, x: SpaceFreq) -> SpaceFreq:
        """Grouped and depthwise convolutions have no cross terms: each branch keeps its own groups."""
        weight, bias = self.kernel()
        bias_spa, bias_fre = self._biases(bias)
        groups_fre = self.fre_out * self.groups // self.out_channels
        groups_spa = self.groups - groups_fre
        size = self._out_size(x.spa)
        spa = x.spa.new_empty(x.spa.shape[0], 0, *size)
        if groups_spa:
            spa = self._conv2d(x.spa, weight[: self.spa_out], bias_spa, groups_spa)
        fre = self._conv2d(x.fre, weight[self.spa_out :], bias_fre, groups_fre)
        return SpaceFreq(spa, resize(fre, self._fre_size(size)))

    @torch.no_grad()
    def reset_blocks(self) -> None:
        """Initialise each block by its own fan-out (Kaiming normal), as four separate convolutions would be.

        Blocks with few output channels get larger weights than in one vanilla convolution.
        """
        for rows in (self.weight[: self.spa_out], self.weight[self.spa_out :]):
            self._fan_out_normal(rows)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    @torch.no_grad()
    def reset_vanilla(self) -> None:
        """Initialise the kernel as one (Kaiming normal by the whole fan-out)."""
        self._fan_out_normal(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def _fan_out_normal(self, rows: Tensor) -> None:
        if len(rows):  # an input channel of a grouped convolution feeds only the rows of its own group
            fan_out = min(len(rows), self.out_channels // self.groups) * rows[0, 0].numel()
            nn.init.normal_(rows, 0.0, (2 / fan_out) ** 0.5)

    def extra_repr(self) -> str:
        shares = f"alpha_in={self.alpha_in}, alpha_out={self.alpha_out}, beta={self.beta}"
        return f"{super().extra_repr()}, stage={self.stage}, {shares}"
