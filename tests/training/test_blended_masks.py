"""A detector that learns from masks is given those of the forgeries that are made during its training."""

import torch

from sficonv.models.rivals.xray import FaceXray
from sficonv.training import train


def test_masks_of_forgeries_made_on_the_fly_reach_the_loss(make_prepared, tmp_path, monkeypatch):
    seen = []

    def losses(model, x, labels, masks=None, *, label_smoothing=0.0, own=FaceXray.losses):
        seen.append((labels, masks))
        return own(model, x, labels, masks, label_smoothing=label_smoothing)

    monkeypatch.setattr(FaceXray, "losses", losses)
    small = {"epochs": 1, "batch_size": 4, "image_size": 32, "workers": 0, "accelerator": "cpu", "devices": 1}
    train(
        make_prepared(),
        model="face_xray",
        model_options={"trunk": "hrnet_w18_small"},
        recipe="paper",
        self_blend=1.0,
        cross_blend=1.0,
        out=tmp_path / "run",
        **small,
    )
    assert seen
    for labels, masks in seen:
        assert masks[labels == 0].max() == 0
        share = masks[labels == 1].mean((1, 2, 3))
        assert torch.all((share > 0) & (share < 1))  # a face of the crop, not all of it
