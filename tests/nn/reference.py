"""The paper's equations in their literal form: four convolutions, then nearest resizing."""

from torch import Tensor
from torch.nn import functional as F

from sficonv.nn import SFIConv2d, SpaceFreq, frequency_size


def literal(layer: SFIConv2d, x: Tensor | SpaceFreq) -> Tensor | SpaceFreq:
    """Eq. (2) to (8) word by word for a dense layer; `x` is a tensor at Stage 1, else a pair of branches."""
    if layer.downsample == "avgpool" and layer.stride != (1, 1):
        pooled = [F.avg_pool2d(t, layer.stride) for t in ([x] if isinstance(x, Tensor) else x)]
        x = pooled[0] if isinstance(x, Tensor) else SpaceFreq(*pooled)
    rows_spa, rows_fre = layer.weight[: layer.spa_out], layer.weight[layer.spa_out :]

    def conv(t: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(t, w, None, layer.conv_stride, layer.padding, layer.dilation)

    def to(t: Tensor, like: tuple[int, int]) -> Tensor:
        return F.interpolate(t, size=like, mode="nearest")

    def bias(t: Tensor, part: slice) -> Tensor:
        return t if layer.bias is None else t + layer.bias[part][:, None, None]

    to_spa, to_fre = slice(0, layer.spa_out), slice(layer.spa_out, None)
    if isinstance(x, Tensor):
        spa = bias(conv(x, rows_spa), to_spa)
        size = (frequency_size(spa.shape[-2], layer.beta), frequency_size(spa.shape[-1], layer.beta))
        trace = x if layer.mcs is None else layer.mcs(x)
        return SpaceFreq(spa, bias(to(conv(trace, rows_fre), size), to_fre))
    spa_in, fre_in = slice(0, layer.spa_in), slice(layer.spa_in, None)
    s2s = conv(x.spa, rows_spa[:, spa_in])
    full = tuple(s2s.shape[-2:])
    size = (frequency_size(full[0], layer.beta), frequency_size(full[1], layer.beta))
    spa = bias(s2s + to(conv(x.fre, rows_spa[:, fre_in]), full), to_spa)
    if not layer.fre_out:
        return spa
    f2f = to(conv(x.fre, rows_fre[:, fre_in]), size)
    return SpaceFreq(spa, bias(f2f + to(conv(x.spa, rows_fre[:, spa_in]), size), to_fre))
