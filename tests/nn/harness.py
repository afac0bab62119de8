"""The operators that every check of `test_operators.py` runs on: a new one gets them all by one entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from tests.nn.reference import Features, literal, literal_mcs, literal_norm
from torch import Tensor, nn

from sficonv.nn import MCSConv, SFIBatchNorm2d, SFIConv2d, SpaceFreq

Shape = tuple[int, int, int]  # channels, height, width
LOW = {1.0: (7, 5), 0.75: (5, 3), 0.5: (3, 2)}  # eq. (8) for 7 x 5


@dataclass(frozen=True)
class Operator:
    """What the harness has to know.

    Args:
        make: Builds one, with new weights.
        inputs, outputs: Shapes without the batch: of one tensor, or of both branches.
        literal: The formula in plain PyTorch, from the operator's parameters and its input.
        golden: Sum and sum of squares of the output for `with_known_numbers` and `known_input`.
        separate: Whether every image is computed for itself.
    """

    make: Callable[[], nn.Module]
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    literal: Callable[[nn.Module, Features], Features]
    golden: tuple[float, float]
    separate: bool = True

    def input(self, batch: int = 2, dtype: torch.dtype = torch.float32) -> Features:
        """Noise."""
        return as_features([torch.randn(batch, *shape, dtype=dtype) for shape in self.inputs])

    def known_input(self) -> Features:
        """The same numbers on every machine and with every version."""
        return as_features([_wave((2, *shape)) for shape in self.inputs])


def as_features(tensors: list[Tensor]) -> Features:
    return tensors[0] if len(tensors) == 1 else SpaceFreq(*tensors)


def with_known_numbers(module: nn.Module) -> nn.Module:
    """Give parameters and statistics numbers that no random generator decides."""
    with torch.no_grad():
        for name, t in module.state_dict().items():
            if t.is_floating_point():
                t.copy_(_wave(t.shape).abs() + 0.5 if "var" in name else _wave(t.shape))
    return module


def _wave(shape: tuple[int, ...]) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7 + count).view(shape).float()


def stage(number: int | None, alpha: float, **options) -> SFIConv2d:
    """A layer of a stage, 3 x 3 from 16 to 32 channels unless told otherwise."""
    options = {"kernel_size": 3, "bias": False, **options}
    if "padding" not in options:
        options["padding"] = options["kernel_size"] // 2
    c_in, c_out = options.pop("channels", (16, 32))
    ins, outs = {1: (0, alpha), 2: (alpha, alpha), 3: (alpha, 0), None: (0, 0)}[number]
    return SFIConv2d(c_in, c_out, alpha_in=ins, alpha_out=outs, **options)


def sficonv(
    number: int | None, beta: float, golden: tuple[float, float], size=(7, 5), out=(7, 5), low=None, **options
) -> Operator:
    """SFIConv from 4 to 6 channels, half of them high-frequency."""
    low_in, low_out = low or (LOW[beta], LOW[beta])
    channels = options.setdefault("channels", (4, 6))

    def branches(c: int, full: tuple[int, int], reduced: tuple[int, int], whole: bool) -> tuple[Shape, ...]:
        return ((c, *full),) if whole or beta == 1 else ((c // 2, *full), (c // 2, *reduced))

    return Operator(
        partial(stage, number, 0.5, beta=beta, bias=True, **options),
        branches(channels[0], size, low_in, number in (1, None)),
        branches(channels[1], out, low_out, number in (3, None)),
        literal,
        golden,
    )


def mcsconv(mode: str, golden: tuple[float, float]) -> Operator:
    return Operator(partial(MCSConv, 3, mode=mode), ((3, 7, 5),), ((3, 7, 5),), literal_mcs, golden)


def norm(training: bool, golden: tuple[float, float]) -> Operator:
    shapes = ((6, 7, 5), (2, 3, 2))
    make = partial(lambda: SFIBatchNorm2d(8, 2).train(training))
    return Operator(make, shapes, shapes, literal_norm, golden, separate=not training)


OPERATORS = {
    "vanilla": sficonv(None, 1.0, (143.662, 15034)),
    "stage1-beta1": sficonv(1, 1.0, (439.427, 468885)),
    "stage1-beta0.75": sficonv(1, 0.75, (420.105, 185168)),
    "stage1-beta0.5": sficonv(1, 0.5, (516.264, 80184.1)),
    "stage1-projected": sficonv(1, 0.5, (547.797, 75529.4), mcs_mode="projected"),
    "stage1-without-mcs": sficonv(1, 0.5, (75.2957, 9809.2), mcs_mode="none"),
    "stage2-beta1": sficonv(2, 1.0, (143.662, 15034)),
    "stage2-beta0.75": sficonv(2, 0.75, (22.9488, 6148.67)),
    "stage2-beta0.5": sficonv(2, 0.5, (57.4044, 4046.69)),
    "stage2-1x1": sficonv(2, 0.5, (92.1922, 449.006), kernel_size=1),
    "stage2-strided": sficonv(2, 0.5, (35.9985, 873.416), out=(4, 3), low=((3, 2), (2, 1)), stride=2),
    "stage2-avgpool": sficonv(
        2,
        0.5,
        (21.0513, 196.492),
        size=(8, 8),
        out=(4, 4),
        low=((4, 4), (2, 2)),
        stride=2,
        downsample="avgpool",
    ),
    "stage2-depthwise": sficonv(2, 0.5, (-149.254, 828.332), channels=(4, 4), groups=4),
    "stage3-beta1": sficonv(3, 1.0, (143.662, 15034)),
    "stage3-beta0.75": sficonv(3, 0.75, (58.4111, 8820.39)),
    "stage3-beta0.5": sficonv(3, 0.5, (200.015, 6633.18)),
    "mcsconv-reparam": mcsconv("reparam", (-18.2369, 6072.51)),
    "mcsconv-projected": mcsconv("projected", (-20.5371, 7180.29)),
    "mcsconv-fixed": mcsconv("fixed", (-20.5371, 7180.29)),
    "norm-training": norm(True, (-56.674, 501.016)),
    "norm-evaluation": norm(False, (-272.335, 555.832)),
}
