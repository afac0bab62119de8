"""One way from a batch to P(fake): views and temperature."""

import pytest
import torch
from torch import Tensor, nn

from sficonv.card import Calibration
from sficonv.errors import WeightsError
from sficonv.models.inference import asks_for_mirror, p_fake


class LeftEdge(nn.Module):
    """The logit of fake is the mean of the left half: a model that knows left from right."""

    def forward(self, x: Tensor) -> Tensor:
        left = x[..., : x.shape[-1] // 2].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(left), left], dim=1)


def test_the_mirrored_view_is_averaged_as_logits_before_the_temperature():
    x = torch.zeros(2, 3, 4, 4)
    x[0, ..., :2], x[1, ..., 2:] = 4.0, 8.0
    torch.testing.assert_close(p_fake(LeftEdge(), x), torch.tensor([4.0, 0.0]).double().sigmoid())
    mirrored = p_fake(LeftEdge(), x, calibration=Calibration(temperature=2.0), mirror=True)
    torch.testing.assert_close(mirrored, torch.tensor([1.0, 2.0]).double().sigmoid())
    torch.testing.assert_close(
        p_fake(LeftEdge(), x.flip(-1), calibration=Calibration(temperature=2.0), mirror=True), mirrored
    )


@pytest.mark.parametrize(
    ("card", "mirror"),
    [
        ({}, False),
        ({"inference": {}}, False),
        ({"inference": {"views": ["original"]}}, False),
        ({"inference": {"views": ["original", "mirrored"]}}, True),
    ],
)
def test_the_card_decides(card, mirror):
    assert asks_for_mirror(card) is mirror


@pytest.mark.parametrize(
    "inference", [[], "mirrored", {"views": "mirrored"}, {"views": ["mirrored"]}, {"views": 5}]
)
def test_a_card_that_asks_for_something_else_is_refused(inference):
    with pytest.raises(WeightsError, match=r"inference\.views"):
        asks_for_mirror({"inference": inference})
