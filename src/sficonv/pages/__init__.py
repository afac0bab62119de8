"""What the HTML reports share: the frame of the page, its colours, pictures and plots that lie inside it.

A page is one file: nothing is loaded from anywhere, and the only script it may hold is one that its own
policy names by its hash. This module knows nothing of the reports; those of `detect`,
`evaluation` and `paper` are built from it.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup
    from matplotlib.figure import Figure

COLOURS: dict[str, tuple[str, str]] = {
    "paper": ("#f6f6f3", "#131517"),
    "card": ("#ffffff", "#1c1f22"),
    "ink": ("#1b1d1f", "#e9eaeb"),
    "soft": ("#575c61", "#a9aeb3"),
    "line": ("#d9dad5", "#363a3e"),
    "focus": ("#1f5fbf", "#8ab6ff"),
    "fake": ("#b01e17", "#ff9087"),
    "real": ("#0a6b4b", "#62d3a6"),
    "uncertain": ("#7d5200", "#f0bd5a"),
    "none": ("#53585d", "#b4b9be"),
    "fake-bg": ("#fbe9e7", "#3d1c1a"),
    "real-bg": ("#e3f3ec", "#12342a"),
    "uncertain-bg": ("#fbf0d9", "#3a2c0e"),
    "none-bg": ("#ecedee", "#2b2f33"),
    "p1": ("#1f5fbf", "#8ab6ff"),
    "p2": ("#8a3ffc", "#c9a6ff"),
    "p3": ("#7d5200", "#f0bd5a"),
    "p4": ("#00677d", "#6fd3e8"),
    "p5": ("#a3195b", "#ff9ac4"),
    "p6": ("#575c61", "#a9aeb3"),
}
"""Every colour of a page by its name in the style sheet: on light and on dark paper."""

LIGHT = {name: light for name, (light, _) in COLOURS.items()}
"""What plots are drawn with; `svg_of` makes them follow the page."""


def page_template(package: str, name: str, **filters: Any) -> Template:
    """A template that may extend `base.html.jinja`.

    Everything put into it is escaped, and a name it does not know is an error.

    Args:
        package: Where it lies, for example `"sficonv.detect"`.
        name: Its file name.
        **filters: Further filters by name; `printable` is always there.

    Example:
        >>> page_template("sficonv.pages", "base.html.jinja").render().startswith("<!doctype html>")
        True
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, ""), PackageLoader("sficonv.pages", "")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(printable=printable, **filters)
    environment.globals.update(colours=COLOURS)
    return environment.get_template(name)


@dataclass(frozen=True)
class Script:
    """A script inside a page.

    Args:
        text: The text of the page.
        source: How the page's policy names it; nothing else runs there, whatever a file name contains.
    """

    text: Markup
    source: str


def read_script(package: str, name: str) -> Script:
    """A script of a package, to be given to a page as `script`.

    Args:
        package: Where it lies, for example `"sficonv.detect"`.
        name: Its file name.

    Example:
        >>> read_script("sficonv.detect", "report.js").source[:7]
        'sha256-'
    """
    from markupsafe import Markup

    text = (files(package) / name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Script(Markup(text), f"sha256-{digest}")


def printable(text: object) -> str:
    """`text` with everything a terminal could act on or not encode written as an escape.

    File names come from strangers: they may hold control sequences, line breaks and bytes of no encoding.

    Example:
        >>> printable("a\\x1b[31m.jpg")
        'a\\\\x1b[31m.jpg'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


# A spreadsheet runs a cell that starts like this as a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def cell(text: str, before: str = "'") -> str:
    """`text` for a table that a spreadsheet may open: never a formula.

    Args:
        text: From anywhere.
        before: What to put before one that would be; `"./"` keeps a path what it is.

    Example:
        >>> cell("=1+1"), cell("=1+1.jpg", "./"), cell("a.jpg")
        ("'=1+1", './=1+1.jpg', 'a.jpg')
    """
    return f"{before}{text}" if text.startswith(_FORMULA) else text


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    """`image` `(H, W, 3)`, made smaller by averaging if its longer side is above `side` pixels.

    Example:
        >>> shrunk(np.zeros((1000, 500, 3), np.uint8), 100).shape
        (100, 50, 3)
    """
    longer = max(image.shape[:2])
    if longer <= side:
        return image
    import cv2

    height, width = (max(1, round(n * side / longer)) for n in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def jpeg_uri(image: np.ndarray, *, side: int = 256) -> str:
    """An image as a data URI.

    Args:
        image: RGB `uint8` `(H, W, 3)`.
        side: Its longer side is made no longer than this, in pixels.

    Example:
        >>> jpeg_uri(np.zeros((8, 8, 3), np.uint8))[:23]
        'data:image/jpeg;base64,'
    """
    import cv2

    image = cv2.cvtColor(shrunk(image, side), cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")


def plot_style() -> AbstractContextManager[None]:
    """Settings of matplotlib for the plots of a page, while the block lasts.

    Example:
        >>> from matplotlib.figure import Figure
        >>> with plot_style():
        ...     svg = svg_of(Figure(), "empty", "Nothing")
    """
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",  # text stays text: it can be read out, searched and copied
            "svg.hashsalt": "sficonv",  # the same plot is the same file
            "text.parse_math": False,  # a dollar sign in a name is a dollar sign
            "font.size": 9,
            "axes.facecolor": "none",
            "axes.edgecolor": LIGHT["soft"],
            "axes.labelcolor": LIGHT["soft"],
            "axes.titlecolor": LIGHT["ink"],
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": LIGHT["line"],
            "text.color": LIGHT["ink"],
            "xtick.color": LIGHT["soft"],
            "ytick.color": LIGHT["soft"],
            "legend.frameon": False,
            "lines.linewidth": 1.8,
        }
    )


def svg_of(figure: Figure, name: str, title: str) -> Markup:
    """A figure of matplotlib as an `<svg>` element for the inside of a page.

    Its colours become those of the style sheet, so that it follows light and dark; names of its parts are
    prefixed, so that two plots on one page do not mix; namespaces and metadata, which name addresses, go.

    Args:
        figure: Drawn with the colours of `LIGHT`, inside `plot_style`.
        name: Prefix, unique on the page: letters, digits and dashes.
        title: What the plot shows, in words, for those who cannot see it.

    Returns:
        Markup, safe to be put into a page: texts are escaped.
    """
    from markupsafe import Markup

    stored = io.BytesIO()
    figure.savefig(stored, format="svg", transparent=True, bbox_inches="tight", metadata={"Date": None})
    root = ElementTree.fromstring(stored.getvalue())
    used = set(re.findall(r'(?:url\(|href=")#([^")]+)', stored.getvalue().decode("utf-8")))
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _local(element.tag)
        attributes = {_local(key): value for key, value in element.attrib.items()}
        if (own := attributes.pop("id", None)) in used:
            attributes["id"] = f"{name}-{own}"
        if attributes.get("href", "").startswith("#"):
            attributes["href"] = f"#{name}-{attributes['href'][1:]}"
        for key in ("style", "fill", "stroke", "clip-path"):
            if key in attributes:
                attributes[key] = _themed(attributes[key]).replace("url(#", f"url(#{name}-")
        element.attrib.clear()
        element.attrib.update(attributes)
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib.update({"class": "plot", "role": "img", "aria-labelledby": f"{name}-title"})
    said = ElementTree.Element("title", {"id": f"{name}-title"})
    said.text = title
    root.insert(0, said)
    return Markup(ElementTree.tostring(root, encoding="unicode", short_empty_elements=False))


_NAME_OF = {light: name for name, light in reversed(LIGHT.items())}


def _themed(style: str) -> str:
    """The fixed colours in an attribute as names of the style sheet."""

    def named(match: re.Match[str]) -> str:
        name = _NAME_OF.get(match[0].lower())
        return f"var(--{name})" if name else match[0]

    return re.sub(r"#[0-9a-fA-F]{6}\b", named, style)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
