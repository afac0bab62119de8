from xml.etree import ElementTree

import numpy as np
from jinja2 import DictLoader
from matplotlib.figure import Figure

from sficonv.pages import COLOURS, LIGHT, jpeg_uri, page_template, plot_style, svg_of

EVIL = "<script>alert(1)</script>$x_"


def drawn(name: str) -> str:
    with plot_style():
        figure = Figure()
        axes = figure.subplots()
        axes.plot([0, 1], color=LIGHT["p2"], marker="o", label=EVIL)
        axes.legend()
        return svg_of(figure, name, EVIL)


def test_a_plot_follows_the_page_and_escapes_its_texts():
    svg = drawn("one")
    assert svg == drawn("one")
    root = ElementTree.fromstring(svg)
    assert root.find("title").text == EVIL
    assert "var(--p2)" in svg
    assert LIGHT["p2"] not in svg
    assert "http" not in svg
    assert "<script" not in svg
    assert svg.count("&lt;script&gt;alert(1)&lt;/script&gt;$x_") == 2


def test_parts_of_two_plots_do_not_mix():
    one, two = (
        {e.attrib["id"] for e in ElementTree.fromstring(drawn(name)).iter() if "id" in e.attrib}
        for name in ("one", "two")
    )
    assert len(one) > 2
    assert not one & two


def test_pages_have_every_colour_in_light_and_dark():
    page = page_template("sficonv.pages", "base.html.jinja").render()
    for name, colours in COLOURS.items():
        for colour in colours:
            assert f"--{name}: {colour};" in page


def test_what_is_put_into_a_page_is_escaped():
    template = page_template("sficonv.pages", "base.html.jinja")
    template.environment.loader = DictLoader({"t": "{{ x }}{{ x | printable }}"})
    assert "<script" not in template.environment.get_template("t").render(x=EVIL)


def test_pictures_are_small():
    assert len(jpeg_uri(np.zeros((2000, 1000, 3), np.uint8), side=64)) < 2000
