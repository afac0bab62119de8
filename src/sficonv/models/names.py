"""The names of the backbones, so that they can be listed without loading PyTorch."""

VANILLA = (
    *("resnet26", "resnet50", "resnet101", "vgg13", "vgg16", "vgg19"),
    *("mobilenetv1", "efficientnet_lite0", "xception"),
)
"""Backbones; each has an `sfic_*` form."""
