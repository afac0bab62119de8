"""The options of a verb, made from its signature: names, types, defaults and help."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from types import UnionType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from jsonargparse import ActionYesNo, ArgumentParser, DefaultHelpFormatter

from sficonv.cli.signature import REQUIRED, Option, Signature, in_words
from sficonv.cli.verbs import VERBS, Verb
from sficonv.pages import printable


class Formatter(DefaultHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Paragraphs and explanations as they are written."""

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help or ""


class Parser(ArgumentParser):
    """Shows options with dashes, as people type them; underscores are understood too."""

    first = ""  # the option whose values may stand first, without its name

    options: tuple[Option, ...] = ()
    metavars: dict[str, str] = {}

    @property
    def known(self) -> set[str]:
        """All options, as they are written on the command line with underscores."""
        return {string for action in self._actions for string in action.option_strings}

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        # jsonargparse's way to append to a list is left out
        text = re.sub(r", --\w+\+ \S+", "", super().format_help(*args, **kwargs))
        return re.sub(r"--[a-z][a-z_]+", lambda m: m[0].replace("_", "-"), text)

    def error(self, message: str, error: Exception | None = None) -> NoReturn:
        """One line that says what is wrong, and where the help is."""
        line = printable(" ".join(message.split()))
        if bad := re.match(r'Parser key "([^"]+)": .*(?:Got|Given) value: (.*)$', line):
            kind = next((_in_words(o.type) for o in self.options if o.name == bad[1]), "another value")
            line = f"{_dashed(bad[1])}: expected {kind}, got {bad[2]!r}"
        elif key := re.match(r'Parser key "([^"]+)": (.*)$', line):
            line = f"{_dashed(key[1])}: {key[2]}"
        elif missing := re.match(r".*arguments? (?:is|are) required: (.*)$", line):
            names = missing[1].split(", ")
            line = f"missing {', '.join(self.metavars.get(name, _dashed(name)) for name in names)}"
        elif key := re.match(r"Option '(.*)' is not accepted", line):
            line = f"{_unknown(f'--{key[1]}', self.known)} (in the file of --config)"
        self.exit(2, f"{self.prog}: {line}\n'{self.prog} --help' lists the options.\n")
        raise SystemExit(2)


def make_parser(name: str, verb: Verb, signature: Signature) -> Parser:
    """The parser of a verb."""
    needed = [o for o in signature.options if o.default is REQUIRED and o.name != verb.positional]
    positional = {"+": f"{verb.metavar}...", "?": f"[{verb.metavar}]"}.get(verb.nargs or "", verb.metavar)
    named = (f"[--{o.name}]" if o.name == verb.first else f"--{o.name}" for o in needed)
    words = [f"{text} {o.name.upper()}" for text, o in zip(named, needed, strict=True)]
    usage = [f"sficonv {name}", positional, *words, "[OPTIONS]"]
    parser = Parser(
        prog=f"sficonv {name}",
        usage=" ".join(filter(None, usage)),
        formatter_class=Formatter,
        description=signature.text.replace("`", ""),
        epilog=f"example:\n  {verb.example}",
        add_help=False,
        print_config=None,
    )
    parser.options, parser.metavars = signature.options, {verb.positional: verb.metavar}
    titles = dict.fromkeys(option.group for option in signature.options if option.group)
    groups = {title: parser.add_argument_group(title) for title in titles}
    parser.first = verb.first
    for option in signature.options:
        _add(groups.get(option.group, parser), option, verb)
    parser.add_argument("-h", "--help", action="help", help="Show this help.")
    parser.add_argument("--json", action="store_true", help="Print the answer as JSON, and nothing else.")
    parser.add_argument("--config", action="config", help="YAML file with options of the same names.")
    return parser


def _add(parser: Any, option: Option, verb: Verb) -> None:
    text = option.help
    if not (option.default is REQUIRED or option.name == verb.positional or "default" in text.lower()):
        text += f" (default: {in_words(option.default)})"
    text = text.replace("`", "").replace("%", "%%")
    default = {} if option.default is REQUIRED else {"default": option.default}
    if option.name == verb.positional:
        parser.add_argument(option.name, nargs=verb.nargs, metavar=verb.metavar, help=text, **default)
    elif option.type is bool:
        parser.add_argument(f"--{option.name}", action=ActionYesNo, help=text, **default)
    else:
        required = {"required": True} if option.default is REQUIRED else default
        parser.add_argument(
            f"--{option.name}", type=option.type, metavar=_metavar(option), help=text, **required
        )


def parse(parser: Parser, argv: list[str]) -> dict[str, Any]:
    """The options by name. Ends the program where one is unknown, missing or has a wrong value."""
    words = _with_underscores(with_name(argv, parser.first))
    for word in words[: words.index("--") if "--" in words else len(words)]:
        option = word.partition("=")[0]
        if option.startswith("--") and option not in parser.known:
            parser.error(_unknown(option, parser.known))
    given: dict[str, Any] = parser.parse_args(words).as_dict()
    given.pop("config", None)
    return given


def with_name(argv: list[str], option: str) -> list[str]:
    """Give the words before the first option the name of one.

    Args:
        argv: The words after the verb.
        option: Its name, or "" where nothing may stand there.

    Example:
        >>> with_name(["faces", "--out", "run"], "data")
        ['--data', 'faces', '--out', 'run']
    """
    count = next((i for i, word in enumerate(argv) if word.startswith("-")), len(argv))
    if not option or not count:
        return argv
    value = argv[0] if count == 1 else json.dumps(argv[:count])
    return [f"--{option}", value, *argv[count:]]


def arguments(given: dict[str, Any], signature: Signature) -> dict[str, Any]:
    """The arguments of the function: options that belong to a dataclass are gathered in one.

    Args:
        given: Values by the name of the option.
        signature: That of the function.
    """
    result = {o.name: given[o.name] for o in signature.options if not o.part_of}
    for parameter, home in signature.classes.items():
        fields = {o.name: given[o.name] for o in signature.options if o.part_of == parameter}
        if parameter in signature.named:
            fields = {key: value for key, value in fields.items() if value is not None}
            if not fields:
                continue
        module, _, name = home.partition(":")
        made: Callable[..., Any] = getattr(import_module(module), name)
        if parameter in signature.named:
            result[parameter] = made.named(result[parameter], **fields)  # type: ignore[attr-defined]
        else:
            result[parameter] = made(**fields)
    return result


def _unknown(option: str, known: set[str]) -> str:
    shown = option.replace("_", "-")
    if shown[2:] in VERBS:
        return f"unknown option {shown}; there is a verb of that name: sficonv {shown[2:]}"
    near = [n.replace("_", "-") for n in get_close_matches(option, known, n=2, cutoff=0.7)]
    return f"unknown option {shown}" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _dashed(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _metavar(option: Option) -> str:
    kinds = [kind for kind in get_args(option.type) or [option.type] if kind is not type(None)]
    if get_origin(option.type) is Literal:
        kinds = [option.type]
    match kinds:
        case [kind] if get_origin(kind) is Literal:
            return "{" + ",".join(map(str, get_args(kind))) + "}"
        case [kind] if kind is int:
            return "N"
        case [kind] if kind is float:
            return "X"
        case _:
            return option.name.upper()


def _in_words(kind: Any) -> str:
    """A type as a person would say it."""
    members = [member for member in get_args(kind) if member is not type(None)]
    if get_origin(kind) is Literal:
        return " or ".join(map(str, members))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(map(_in_words, members)))
    if get_origin(kind) is tuple and ... not in members:
        return f"[{', '.join(map(_in_words, members))}]"
    if members:
        return f"a list such as [{_in_words(members[0])}, ...]" if len(members) == 1 else "a mapping"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")


def _with_underscores(argv: list[str]) -> list[str]:
    """`--max-frames 8` and `--max-frames=8` as the names of the Python arguments."""
    end = argv.index("--") if "--" in argv else len(argv)
    options = [re.sub(r"^--[^=]+", lambda m: "--" + m[0][2:].replace("-", "_"), a) for a in argv[:end]]
    return options + argv[end:]
