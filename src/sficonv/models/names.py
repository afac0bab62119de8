"""The names of the built-in detectors, so that they can be listed without loading PyTorch."""

VANILLA = (
    *("resnet26", "resnet50", "resnet101", "vgg13", "vgg16", "vgg19"),
    *("mobilenetv1", "efficientnet_lite0", "xception"),
)
"""Backbones; each has an `sfic_*` form."""
RIVALS = (
    *("amtennet", "f3net", "face_xray", "gocnet", "m2tr", "madd", "meso_inception4"),
    *("multitask", "smil", "spsl", "srm"),
)
"""Comparison detectors."""
NAMES = (*VANILLA, *(f"sfic_{name}" for name in (*VANILLA, "f3net", "spsl")), *RIVALS)
