"""MC-LCR (Wang et al., "MC-LCR: Multimodal contrastive classification by locally correlated representations
for effective face forgery detection", Knowledge-Based Systems 2022).

Three views of local discrepancies: the correlations of shallow maps (style), and the amplitude and the phase
of each patch's spectrum, which attend to each other; beside them a plain Xception. A contrastive loss
gathers the faces of a class.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sficonv.models.config import ModelConfig
from sficonv.models.registry import register_model
from sficonv.models.rivals.contrast import contrast
from sficonv.models.rivals.cross_attention import CrossAttention
from sficonv.models.rivals.frequency import full_precision, luma, rdft2
from sficonv.models.rivals.style import Style
from sficonv.models.rivals.trunk import stretch, xception

PATCH = 8
"""Side of a patch in pixels."""
BINS = PATCH * (PATCH // 2 + 1)
"""Frequencies of a patch."""
FLOOR = 1e-3
"""Amplitudes below this have no phase to speak of."""
TEMPERATURE, CONTRAST = 0.1, 0.5
"""Of the contrastive loss: its temperature and its weight."""


def patch_spectra(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Amplitude and phase of every patch of `PATCH` x `PATCH` pixels.

    Args:
        grey: `(B, 1, H, W)`; a rest that fills no patch is left out.

    Returns:
        `log(1 + amplitude)`, `(B, BINS, H / PATCH, W / PATCH)`; and the cosine and the sine of the phase,
        `(B, 2 BINS, H / PATCH, W / PATCH)`, because the angle itself jumps where a turn is full. Both
        float32.

    Example:
        >>> amplitude, phase = patch_spectra(torch.rand(2, 1, 32, 32))
        >>> amplitude.shape, phase.shape
        (torch.Size([2, 40, 4, 4]), torch.Size([2, 80, 4, 4]))
    """
    with full_precision(grey):
        rows, columns = grey.shape[2] // PATCH, grey.shape[3] // PATCH
        x = grey.float()[:, 0, : rows * PATCH, : columns * PATCH]
        patches = x.reshape(-1, rows, PATCH, columns, PATCH).transpose(2, 3)
        real, imaginary = (part.flatten(3).permute(0, 3, 1, 2) for part in rdft2(patches))
        amplitude = (real.square() + imaginary.square()).clamp(min=FLOOR**2).sqrt()
        return amplitude.log1p(), torch.cat((real / amplitude, imaginary / amplitude), 1)


class SpectralAttention(nn.Module):
    """Amplitude and phase of the patches: each embedded, compared with its neighbours, and read by the other.

    Args:
        channels: Channels of each branch.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.amplitude, self.phase = self._embed(BINS, channels), self._embed(2 * BINS, channels)
        self.attend = CrossAttention(channels, channels // 8)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, grey: Tensor) -> Tensor:
        """`(B, 1, H, W)` to `(B, 2 channels)`."""
        amplitude, phase = patch_spectra(grey)
        both = self.attend(self.amplitude(amplitude.to(grey.dtype)), self.phase(phase.to(grey.dtype)))
        return torch.cat([self.pool(x) for x in both], 1)

    @staticmethod
    def _embed(bins: int, channels: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for inputs, kernel in ((bins, 1), (channels, 3), (channels, 3)):
            conv = nn.Conv2d(inputs, channels, kernel, padding=kernel // 2, bias=False)
            layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
        return nn.Sequential(*layers)


class MCLCR(nn.Module):
    """Xception, the style of its stride-4 map, and the spectra of the patches, joined.

    Args:
        pretrained: Start the trunk from ImageNet weights.

    Example:
        >>> MCLCR().eval()(torch.rand(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    uses_masks = False

    def __init__(self, pretrained: bool = False) -> None:
        super().__init__()
        trunk = xception(pretrained=pretrained)
        self.shallow, self.deep = stretch(trunk, "conv1", "block1"), stretch(trunk, "block2", "act4")
        self.style = Style(128, 32, 256)
        self.spectra = SpectralAttention(128)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        features = 2048 + 256 + 2 * 128
        self.project = nn.Sequential(nn.Linear(features, 256), nn.ReLU(), nn.Linear(256, 128))
        self.classify = nn.Linear(features, 2)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to logits `(B, 2)`."""
        return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` to the joined features `(B, 2560)`."""
        shallow = self.shallow(x)
        parts = (self.pool(self.deep(shallow)), self.style(shallow), self.spectra(luma(x)))
        return torch.cat([part.to(parts[0].dtype) for part in parts], 1)

    def losses(
        self, x: Tensor, labels: Tensor, masks: Tensor | None = None, *, label_smoothing: float = 0.0
    ) -> dict[str, Tensor]:
        """See `sficonv.models.losses.HasLosses`: cross entropy, and the supervised contrast of the batch."""
        features = self.features(x)
        vectors = F.normalize(self.project(features).float(), dim=1)
        alike = labels[:, None] == labels
        itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
        return {
            "cross_entropy": F.cross_entropy(
                self.classify(features), labels, label_smoothing=label_smoothing
            ),
            "contrast": CONTRAST * contrast(vectors @ vectors.T / TEMPERATURE, alike & ~itself, ~alike),
        }


@register_model
def mc_lcr(*, pretrained: bool = False) -> tuple[nn.Module, ModelConfig]:
    """MC-LCR.

    From the paper's abstract: pairwise correlations of shallow maps as style, a dual attention between the
    amplitude and the phase spectrum of patches, and the supervised contrastive loss beside the cross
    entropy. There is no public code, and the rest was not checked against the text. Chosen here: Xception, as
    most detectors of its time; patches of 8 pixels, as JPEG cuts an image; the style of the map behind the
    first block, 32 channels of it; the attention is that of F3-Net; the features of all branches are joined
    at the end, where a branch that says nothing does no harm; temperature 0.1 and weight 0.5 of the contrast.
    """
    return MCLCR(pretrained), ModelConfig("mc_lcr", mean=(0.5,) * 3, std=(0.5,) * 3)
