"""Maps of where a detector looks, and numbers for them."""

from sficonv.attention.maps import (
    attention_numbers,
    average_attention,
    forgery_attention,
    grad_cam,
    overlay,
)

__all__ = ["attention_numbers", "average_attention", "forgery_attention", "grad_cam", "overlay"]
