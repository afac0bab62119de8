"""Contrastive loss with any number of positives and negatives, for DCL and MC-LCR."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def contrast(similarity: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of `-log(e^p / (e^p + sum of e^n))` over the positives p of each anchor, then over the anchors.

    Args:
        similarity: `(..., N)`, of each anchor to N others, divided by the temperature.
        positive, negative: bool, of the same shape: which of the others are alike, and which are not.

    Returns:
        A scalar; anchors without a positive or without a negative do not count, and without any it is 0.

    Example:
        >>> import torch
        >>> similarity = torch.tensor([[3.0, 3.0], [9.0, 1.0]])
        >>> alike = torch.tensor([[True, False], [False, False]])
        >>> round(contrast(similarity, alike, ~alike).item(), 3)
        0.693
    """
    similarity = similarity.float()
    against = similarity.masked_fill(~negative, -1e4).logsumexp(-1, keepdim=True)
    terms = F.softplus(against - similarity) * positive
    counts = positive.any(-1) & negative.any(-1)
    each = terms.sum(-1) / positive.sum(-1).clamp(min=1)
    return (each * counts).sum() / counts.sum().clamp(min=1)
