"""Verbs that describe the built-in detectors."""

from __future__ import annotations

import fnmatch

from sficonv.cli.signature import constant, decorated


def models(pattern: str = "*") -> list[str]:
    """List the detectors that can be trained.

    Args:
        pattern: Shell pattern, such as 'sfic_*'; all by default.

    Returns:
        The names, sorted.

    Raises:
        ValueError: If there is none.

    Example:
        >>> models("sfic_resnet2*")
        ['sfic_resnet26']
    """
    backbones = constant("sficonv.models.names:VANILLA")
    rivals = decorated("sficonv.models.rivals", "register_model")
    known = [*backbones, *(f"sfic_{name}" for name in backbones), *rivals]
    found = sorted(fnmatch.filter(known, pattern))
    if not found:
        raise ValueError(f"no model is called {pattern!r}; 'sficonv models' lists them all")
    return found


def complexity_of(
    model: str, *, alpha: float | None = None, beta: float | None = None, image_size: int | None = None
) -> dict[str, int]:
    """Count the parameters and multiply-accumulates of a detector for one image.

    Args:
        model: A name that `sficonv models` lists.
        alpha: Share of the channels in the frequency branch; the model's own by default.
        beta: Resolution of the frequency branch relative to the spatial one; the model's own by default.
        image_size: Side of the input in pixels; the model's own by default.

    Returns:
        `params`; `macs`, what really runs; `paper_macs`, by the counting rule of the paper.
    """
    from dataclasses import asdict

    from sficonv.models import create_model
    from sficonv.nn import complexity

    made = create_model(model, alpha=alpha, beta=beta, image_size=image_size)
    return asdict(complexity(made, made.config.image_size))  # type: ignore[union-attr, arg-type]
