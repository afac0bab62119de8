"""README and docs say what is true: commands parse, links lead somewhere, all is listed."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib import import_module

import pytest
import yaml
from tests.docs.pages import PAGES, ROOT, commands

import sficonv
from sficonv.cli.parser import make_parser, parse
from sficonv.cli.signature import read_signature
from sficonv.cli.verbs import VERBS

HISTORY = "CHANGELOG.md"
"""Names what is gone."""

COMMANDS = [(page, words) for page, text in PAGES.items() for words in commands(text)]


def understand(verb: str, words: list[str]) -> None:
    """Parse a command; whether its files exist does not matter."""
    parse(make_parser(verb, VERBS[verb], read_signature(VERBS[verb].function)), words)


@pytest.mark.parametrize(
    ("page", "words"), COMMANDS, ids=lambda value: " ".join(value)[:80] if isinstance(value, list) else value
)
def test_a_command_of_the_docs_is_understood(page, words):
    understand(words[0], words[1:])


MENTIONS = [
    (page, mention)
    for page, text in PAGES.items()
    if page != HISTORY
    for mention in re.findall(r"`sficonv ([a-z][^`]*)`", text)
]


@pytest.mark.parametrize(("page", "mention"), MENTIONS, ids=lambda value: value[:80])
def test_a_verb_and_options_named_in_a_sentence_exist(page, mention):
    verb, *words = mention.split()
    assert verb in VERBS, page
    options = {re.split(r"[=\]]", word)[0].strip("[") for word in words if word.lstrip("[").startswith("--")}
    known = make_parser(verb, VERBS[verb], read_signature(VERBS[verb].function)).known
    assert {option.replace("-", "_").replace("__", "--", 1) for option in options} <= known, page


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_is_understood(verb):
    _, name, *words = shlex.split(VERBS[verb].example)
    assert name == verb
    understand(verb, words)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", PAGES[page]):
        if "://" not in target and not target.startswith("mailto:"):
            assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_readme_lists_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    rows = re.findall(r"^\| (`.+?) \|", PAGES["README.md"].partition("| extra | adds |")[2], re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed | {"dev"} == project["optional-dependencies"].keys()


def test_every_script_that_measures_is_described():
    described = (ROOT / "benchmarks/README.md").read_text(encoding="utf-8")
    assert not [path.name for path in (ROOT / "benchmarks").glob("*.py") if f"`{path.name}`" not in described]


@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_promised_of_an_index(page):
    assert not re.search(r"pip install (-U )?'?sficonv", PAGES[page]), "the package is installed from a clone"


def described() -> set[str]:
    """What the API reference names."""
    return {
        name for text in PAGES.values() for name in re.findall(r"^::: (sficonv[\w.]+)$", text, re.MULTILINE)
    }


def test_the_reference_describes_every_public_name():
    homes = {f"{module}.{name}" for name, module in sficonv._HOME.items()}
    found = {resolved(name) for name in described()}
    assert not [home for home in homes if resolved(home) not in found]


@pytest.mark.parametrize("name", sorted(described()))
def test_what_the_reference_describes_exists(name):
    assert resolved(name) is not None


def resolved(name: str) -> object:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def test_every_page_is_in_the_menu():
    menu = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]

    def pages(entry: object) -> Iterator[str]:
        match entry:
            case str():
                yield entry
            case list():
                for item in entry:
                    yield from pages(item)
            case dict():
                yield from pages(list(entry.values()))

    docs = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")}
    assert set(pages(menu)) == docs
