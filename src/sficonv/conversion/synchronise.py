"""Batch normalisation over the batches of all processes that train together."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce

from sficonv.nn.norm import SFIBatchNorm2d

_CONVERTIBLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, BatchNormAct2d)


def synchronise_norms(model: nn.Module) -> nn.Module:
    """Let every batch normalisation of a model count over the batches of all processes.

    `torch.nn.SyncBatchNorm.convert_sync_batchnorm` (what `Trainer(sync_batchnorm=True)` of Lightning calls)
    drops the activation inside timm's `BatchNormAct2d`, cannot read the branches of `SFIBatchNorm2d`, and
    needs a GPU. This keeps both, and runs wherever `torch.distributed` does (NCCL, gloo). Parameters and
    buffers keep their names, so weights are saved and loaded as before. Where only one process trains, and
    in evaluation, nothing changes.

    Call it before the model is wrapped in `DistributedDataParallel`.

    Args:
        model: Any model, changed in place.

    Returns:
        The model.

    Raises:
        ValueError: A batch normalisation that normalises in its own way; the message names the layer.

    Example:
        >>> import timm
        >>> model = synchronise_norms(timm.create_model("efficientnet_lite0", num_classes=2))
    """
    for name, norm in list(model.named_modules()):
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            continue
        if not isinstance(norm, SFIBatchNorm2d):
            if type(norm) not in _CONVERTIBLE or norm._forward_hooks or norm._forward_pre_hooks:
                raise ValueError(
                    f"{name}: {type(norm).__name__} cannot be synchronised between processes; "
                    "train without --sync-batchnorm, or on one device"
                )
            norm = SFIBatchNorm2d.from_norm(norm, 0)  # type: ignore[arg-type]  # one of _CONVERTIBLE
            model.set_submodule(name, norm) if name else None
        norm.batch_norm = synchronised_batch_norm
    return model


def synchronised_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """`F.batch_norm` in training, with the mean and variance over the batches of all processes.

    The batches may differ in size. Gradients flow through the statistics to the inputs of all processes, as
    in `torch.nn.SyncBatchNorm`.

    Args:
        x: `(B, C, ...)`, this process's batch.
        running_mean, running_var, weight, bias, training, momentum, eps: As in `F.batch_norm`.

    Returns:
        The normalised batch, of the shape and type of `x`.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    dims, shape = [0, *range(2, x.ndim)], [1, -1] + [1] * (x.ndim - 2)
    with torch.autocast(x.device.type, enabled=False):
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        count = values.new_full((1,), x.numel() / x.shape[1])
        sums = all_reduce(torch.cat((values.sum(dims), count)))
        total, mean = sums[-1].detach(), sums[:-1] / sums[-1].detach()
        centred = values - mean.view(shape)
        var = all_reduce(centred.square().sum(dims)) / total
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_((var * (total / (total - 1))).to(running_var.dtype), momentum)
        y = centred * torch.rsqrt(var + eps).view(shape)
        if weight is not None:
            y = y * weight.view(shape)
        if bias is not None:
            y = y + bias.view(shape)
    return y.to(x.dtype)
