"""SFIConv: a vanilla convolution's weight, executed on two resolutions (paper, section III-C)."""

from __future__ import annotations

from fractions import Fraction
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from sficonv.nn.constrained import MCSConv, MCSMode
from sficonv.nn.execution import (
    Geometry,
    Parts,
    for_branches,
    for_network,
    generate_fre,
    interact,
    split_bias,
    split_kernel,
)
from sficonv.nn.sampling import Size, average_pool, resize

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
        >>> frequency_size(7, 0.5), frequency_size(1, 0.25), frequency_size(90, Fraction(7, 10))
        (3, 1, 63)
    """
    if isinstance(beta, Fraction):
        return max(1, size * beta.numerator // beta.denominator)
    return max(1, int(beta * size))


def check_ratio(name: str, value: Ratio, *, where: str) -> None:
    """Raise a `ValueError` that names the argument and the layer unless `value` lies in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, int | float | Fraction):
        raise ValueError(f"{where}: {name} must be a number in [0, 1], got {value!r}")
    if not 0 <= value <= 1:
        raise ValueError(f"{where}: {name} must lie in [0, 1], got {value!r}")


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
    travel in the channels-last memory format, whatever the network's own format is: small maps are faster
    in it. Stage 3 returns to the format of its weight.

    Args:
        in_channels: Channels of both input branches together.
        out_channels: Channels of both output branches together.
        kernel_size: As in `nn.Conv2d`.
        stride: As in `nn.Conv2d`.
        padding: As in `nn.Conv2d`, in numbers.
        dilation: As in `nn.Conv2d`.
        groups: As in `nn.Conv2d`. A grouped (depthwise) convolution keeps to its branch, so the branches must
            meet at a group's border.
        bias: As in `nn.Conv2d`.
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
        self.out_rows = (self.spa_out, self.fre_out)
        self.geometry = Geometry(self.kernel_size, self.conv_stride, self.padding, self.dilation)  # type: ignore[arg-type]
        if groups > 1:
            self._check_groups()
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

    @property
    def _branch_groups(self) -> tuple[int, int]:
        """Groups of each branch; a convolution that is not grouped is one group in both."""
        if self.groups == 1:
            return 1, 1
        groups_fre = self.fre_out * self.groups // self.out_channels
        return self.groups - groups_fre, groups_fre

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

    @property
    def stored(self) -> Tensor:
        """A kernel as it is stored, in the memory format of the network around the layer."""
        return self.weight

    def kernel(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias as applied, channels in the order `[spa | fre]`; a subclass may derive them."""
        return self.weight, self.bias

    def forward(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:  # type: ignore[override]
        """Run the layer's stage.

        Args:
            x: `(B, in_channels, H, W)`; at beta < 1 Stages 2 and 3 take a `SpaceFreq`.

        Returns:
            `(B, out_channels, H', W')`; at beta < 1 Stages 1 and 2 give a `SpaceFreq`.

        Raises:
            TypeError: If `x` is a tensor where branches belong.
            ValueError: If a branch has another number of channels.
        """
        if self.downsample == "avgpool" and self.stride != (1, 1):
            x = self._pool(x)
        if isinstance(x, Tensor):
            if self.stage == 1:
                return self._generate(x)
            if self.stage is None or self.beta == 1:
                return self.geometry.convolve(x, *self.kernel(), self.groups)
            raise TypeError(
                f"{self.name}: Stage {self.stage} at beta={self.beta} takes a SpaceFreq, got a tensor"
            )
        if x.fre.shape[1] != self.fre_in:
            raise ValueError(
                f"{self.name} takes {self.spa_in} spatial and {self.fre_in} high-frequency channels, "
                f"got {x.spa.shape[1]} and {x.fre.shape[1]}"
            )
        return self._interact_grouped(x) if self.groups > 1 else self._interact(x)

    def _pool(self, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:
        if isinstance(x, Tensor):
            return average_pool(x, self.stride)  # type: ignore[arg-type]
        return SpaceFreq(*(average_pool(t, self.stride) for t in x))  # type: ignore[arg-type]

    def _sizes(self, x: Tensor) -> tuple[Size, Size]:
        """Sizes of both outputs for a spatial input `x` (eq. 8)."""
        height, width = self.geometry.output((x.shape[-2], x.shape[-1]))
        return (height, width), (frequency_size(height, self.beta), frequency_size(width, self.beta))

    def _generate(self, x: Tensor) -> Tensor | SpaceFreq:
        """Stage 1: `T_spa = f(x)` and `T_fre = I(f(MCSConv(x)), beta)`."""
        weight, bias = self.kernel()
        if self.mcs is None and self.beta == 1:
            return self.geometry.convolve(x, weight, bias, self.groups)
        (to_spa, to_fre), (bias_spa, bias_fre) = weight.split(self.out_rows), split_bias(bias, self.out_rows)
        size, fre_size = self._sizes(x)
        for_spa, for_fre = x, x
        if self.groups > 1:
            border = self.in_channels - self._trace_channels
            for_spa, for_fre = x[:, :border], x[:, border:]
        groups_spa, groups_fre = self._branch_groups
        if self.spa_out:
            spa = self.geometry.convolve(for_spa, to_spa, bias_spa, groups_spa)
        else:
            spa = x.new_empty(x.shape[0], 0, *size)
        fre = generate_fre(for_fre, self.mcs, to_fre, bias_fre, fre_size, self.geometry, groups_fre)
        if self.beta == 1:
            return torch.cat((spa, fre), 1)
        return SpaceFreq(for_branches(spa), for_branches(fre))

    def _interact(self, x: SpaceFreq) -> Tensor | SpaceFreq:
        """Stage 2, or Stage 3 where no output is high-frequency.

        With the four blocks of the kernel (eq. 2) and the sizes of eq. (8), eq. (4), (5) and (7) are

            T'_spa    = f_S->S(T_spa) + I(f_F->S(T_fre), 1 / beta)
            T'_fre    = f_F->F(T_fre) + I(f_S->F(T_spa), beta)
            T_fusion  = f'_S->S(T'_spa) + I(f'_F->S(T'_fre), 1 / beta)
        """
        size, fre_size = self._sizes(x.spa)
        spa, fre = interact(x.spa, x.fre, self.parts(), self.out_rows, size, fre_size, self.geometry)
        if not self.fre_out:
            return for_network(spa, self.stored)
        return SpaceFreq(for_branches(spa), for_branches(fre))

    def parts(self) -> Parts:
        """The blocks of the kernel as its convolutions read them, and the bias."""
        return split_kernel(*self.kernel(), self.out_rows, (self.spa_in, self.fre_in), self.geometry)

    def _interact_grouped(self, x: SpaceFreq) -> SpaceFreq:
        """Grouped and depthwise convolutions have no cross terms: each branch keeps its own groups."""
        weight, bias = self.kernel()
        (to_spa, to_fre), (bias_spa, bias_fre) = weight.split(self.out_rows), split_bias(bias, self.out_rows)
        groups_spa, groups_fre = self._branch_groups
        size, fre_size = self._sizes(x.spa)
        spa = x.spa.new_empty(x.spa.shape[0], 0, *size)
        if groups_spa:
            spa = self.geometry.convolve(x.spa, to_spa, bias_spa, groups_spa)
        fre = self.geometry.convolve(x.fre, to_fre, bias_fre, groups_fre)
        return SpaceFreq(spa, resize(fre, fre_size))

    def reset_blocks(self) -> None:
        """Initialise each block by its own fan-out (Kaiming normal), as four separate convolutions would be.

        Blocks with few output channels get larger weights than in one vanilla convolution.
        """
        for rows in (self.weight[: self.spa_out], self.weight[self.spa_out :]):
            self._fan_out_normal(rows)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

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
        return f"{super().extra_repr()}, stage={self.stage}, {shares}"  # type: ignore[no-untyped-call]
