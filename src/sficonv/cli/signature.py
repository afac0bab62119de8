"""What a verb takes, read from its source text: nothing of the library is imported.

`sficonv train --help` and a mistyped option have to be answered at once, while importing the function would
load PyTorch. So the parameters, their types, defaults and explanations are read from the syntax tree.

- Each parameter of the function is an option.
- A parameter whose type is a dataclass of the library (`options: TrainOptions = TrainOptions()`) stands for
  one option per field.
- A parameter that may be a name or a dataclass (`recipe: str | Recipe = "paper"`) is an option that takes the
  name, plus one option per field that changes it; `Recipe.named(name, **changes)` puts the two together. The
  help of a field tells its value by each name: `RECIPES`, a dictionary in the module of the dataclass.
- A parameter whose type nobody can type on a command line (a model, a function) is left out.

Help is what the docstring's `Args:` says. Types may use builtins, the standard library and aliases of the
library; defaults may use literals and constants of the library.
"""

from __future__ import annotations

import ast
import builtins
import dataclasses
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

REQUIRED: Any = dataclasses.MISSING
"""Default of an option that has to be given."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of a verb.

    Args:
        name: As in Python, with underscores.
        type: What values it takes.
        default: Its value where it is not given, or `REQUIRED`.
        help: What the docstring says of it.
        part_of: The parameter of the function whose dataclass has this field, or "" for a parameter itself.
        group: First line of the docstring of the dataclass that defines the field: a heading for the help.
    """

    name: str
    type: Any
    default: Any
    help: str
    part_of: str = ""
    group: str = ""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function as the command line sees it.

    Args:
        text: Its docstring without the sections.
        options: Its options in the order of the source.
        classes: For each parameter that is a dataclass, where that stands, as `"module:name"`.
        named: Those of them that take a name.
    """

    text: str
    options: tuple[Option, ...]
    classes: dict[str, str]
    named: frozenset[str]


def read_signature(function: str) -> Signature:
    """The signature of a function, without importing it.

    Args:
        function: `"module:name"`, of this package.

    Example:
        >>> [option.name for option in read_signature("sficonv.splits.check:check").options]
        ['data', 'files']
    """
    module, _, name = function.partition(":")
    source = _source(module)
    node = source.find(name)
    assert isinstance(node, ast.FunctionDef), f"{function} is no function"
    text, helps = _docstring(node)
    options: list[Option] = []
    classes: dict[str, str] = {}
    named = set()
    own = {argument.arg for argument, _ in _parameters(node.args)}
    for argument, default_node in _parameters(node.args):
        hint = source.evaluate(argument.annotation) if argument.annotation else Any
        record = next((kind for kind in _members(hint) if _is_record(kind)), None)
        typed = _typed(hint)
        if record is not None:
            classes[argument.arg] = record.home
            if typed in (None, type(None)):
                options += (dataclasses.replace(field, part_of=argument.arg) for field in record.options)
                continue
            named.add(argument.arg)
        if typed is None:
            continue
        default = REQUIRED if default_node is None else source.evaluate(default_node)
        options.append(Option(argument.arg, typed, default, helps.get(argument.arg, "")))
        if record is not None:
            presets = _presets(record)
            options += (
                Option(
                    field.name,
                    field.type | None,
                    None,
                    _with_defaults(field, presets),
                    argument.arg,
                    field.group,
                )
                for field in record.options
                if field.default is not REQUIRED and field.name not in own
            )
    return Signature(text, tuple(options), classes, frozenset(named))


def constant(name: str) -> Any:
    """A constant of a module, `"module:NAME"`, without importing the module.

    Example:
        >>> constant("sficonv.evaluation.evaluate:Split")
        typing.Literal['train', 'val', 'test', 'all']
    """
    module, _, attribute = name.partition(":")
    return _source(module)[attribute]


def decorated(package: str, decorator: str) -> list[str]:
    """The functions of a folder's modules that have a decorator.

    Example:
        >>> "f3net" in decorated("sficonv.models.rivals", "register_model")
        True
    """
    folder = files("sficonv").joinpath(*package.split(".")[1:])
    modules = [f"{package}.{path.name.removesuffix('.py')}" for path in folder.iterdir() if path.is_file()]
    return [
        name
        for module in sorted(modules)
        if not module.endswith("__init__")
        for name, node in _source(module).nodes.items()
        if isinstance(node, ast.FunctionDef)
        and any(ast.unparse(found) == decorator for found in node.decorator_list)
    ]


class _Opaque(type):
    """Stands for whatever of other packages occurs in a type: `torch.device | str`."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Unknown

    def __getitem__(cls, item: object) -> Any:
        return _Unknown


class _Unknown(metaclass=_Opaque):
    pass


class _Record:
    """Base of the stand-ins for dataclasses, whose values are read where a constant holds one."""

    home: str
    options: tuple[Option, ...]

    def __init__(self, *values: Any, **named: Any) -> None:
        names = [option.name for option in self.options]
        defaults = {option.name: option.default for option in self.options}
        self.values = defaults | dict(zip(names, values, strict=False)) | named


def _presets(record: type[_Record]) -> dict[str, _Record]:
    """The values of a dataclass that have a name, from a dictionary of its module."""
    source = _source(record.home.partition(":")[0])
    constants = (source[name] for name in source.nodes if name.isupper())
    return next(
        (
            known
            for known in constants
            if isinstance(known, dict) and all(isinstance(one, record) for one in known.values())
        ),
        {},
    )


def _with_defaults(field: Option, presets: Mapping[str, _Record]) -> str:
    """The help of a field, and what the field is in each preset."""
    values = {name: preset.values[field.name] for name, preset in presets.items()}
    if not values or "default" in field.help.lower():
        return field.help
    shown = {name: in_words(value) for name, value in values.items()}
    if len(set(shown.values())) == 1:
        return f"{field.help} Default: {shown.popitem()[1]}."
    return f"{field.help} Default: {', '.join(f'{value} ({name})' for name, value in shown.items())}."


def in_words(value: Any) -> str:
    """A default as people read it.

    Example:
        >>> [in_words(value) for value in (None, False, 0.0003, (0.9, 0.999), "test")]
        ['none', 'no', '0.0003', '[0.9, 0.999]', 'test']
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, (), ""):
        return "none"
    return (
        f"{value:g}" if isinstance(value, float) else str(list(value) if isinstance(value, tuple) else value)
    )


class _Source(dict[str, Any]):
    """The names of a module; their values are worked out when asked for."""

    def __init__(self, module: str) -> None:
        super().__init__()
        self.module = module
        path = files("sficonv").joinpath(*module.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.parent / f"{path.name}.py"  # type: ignore[attr-defined]
        self.nodes = dict(_names(ast.parse(path.read_text(encoding="utf-8")).body))

    def find(self, name: str) -> ast.AST:
        """Where a name is defined, here or in the module of the library it is imported from."""
        node = self.nodes[name]
        if isinstance(node, ast.ImportFrom) and _is_ours(node.module):
            return _source(str(node.module)).find(_original(node, name))
        return node

    def evaluate(self, expression: ast.expr) -> Any:
        """What an expression of this module is worth."""
        if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
            return expression.value
        code = compile(ast.Expression(expression), self.module, "eval")
        return eval(code, {"__builtins__": {}}, self)

    def __missing__(self, name: str) -> Any:
        self[name] = value = self._value(name)
        return value

    def _value(self, name: str) -> Any:
        match self.nodes.get(name):
            case None:
                return getattr(builtins, name)
            case ast.ImportFrom(module=str(module)) as node:
                original = _original(node, name)
                if _is_ours(module):
                    return _source(module)[original]
                return getattr(import_module(module), original) if _is_standard(module) else _Unknown
            case ast.Import(names=names):
                module = next(n.name for n in names if (n.asname or n.name.split(".")[0]) == name)
                return import_module(module) if _is_standard(module) else _Unknown
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return self.evaluate(value)
            case ast.ClassDef() as node if _is_dataclass(node):
                return self._record(node)
            case _:
                return _Unknown

    def _record(self, node: ast.ClassDef) -> type[_Record]:
        """A stand-in for a dataclass, with its fields as options."""
        text, helps = _docstring(node)
        title = text.partition("\n")[0].rstrip(".")
        options: dict[str, Option] = {}
        for base in node.bases:
            kind = self.evaluate(base)
            options |= {option.name: option for option in getattr(kind, "options", ())}
        for line in node.body:
            if not (isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)):
                continue
            key, kind = line.target.id, _typed(self.evaluate(line.annotation))
            if kind is None:
                continue
            default = REQUIRED if line.value is None else self.evaluate(line.value)
            if isinstance(default, dataclasses.Field):
                factory: Any = default.default_factory
                default = default.default if factory is REQUIRED else factory()
            options[key] = Option(key, kind, default, helps.get(key, ""), group=title)
        space = {"home": f"{self.module}:{node.name}", "options": tuple(options.values())}
        return type(node.name, (_Record,), space)


@cache
def _source(module: str) -> _Source:
    return _Source(module)


def _names(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AST]]:
    """The top-level names of a module, those for type checkers included."""
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                yield name, node
            case ast.ImportFrom(names=names):
                yield from ((n.asname or n.name, node) for n in names)
            case ast.Import(names=names):
                yield from ((n.asname or n.name.split(".")[0], node) for n in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), body=inner):
                yield from _names(inner)


def _parameters(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    positional = [*arguments.posonlyargs, *arguments.args]
    missing = [None] * (len(positional) - len(arguments.defaults))
    yield from zip(positional, [*missing, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _docstring(node: ast.FunctionDef | ast.ClassDef) -> tuple[str, dict[str, str]]:
    """The text above the sections, and the explanation of each argument."""
    from docstring_parser import DocstringStyle, parse

    text = parse(ast.get_docstring(node) or "", style=DocstringStyle.GOOGLE)
    helps = {
        key.strip(): " ".join((p.description or "").split())
        for p in text.params
        for key in p.arg_name.split(",")  # several may be explained together
    }
    return "\n\n".join(filter(None, (text.short_description, text.long_description))), helps


def _is_ours(module: str | None) -> bool:
    return module is not None and module.split(".")[0] == "sficonv"


def _is_standard(module: str) -> bool:
    return module.split(".")[0] in sys.stdlib_module_names


def _original(node: ast.ImportFrom, name: str) -> str:
    return next(n.name for n in node.names if (n.asname or n.name) == name)


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, _Record)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _typed(hint: Any) -> Any:
    """The part of a type that can be typed on a command line, or `None` where there is none."""
    if hint in (Any, str, int, float, bool, Path, type(None)) or get_origin(hint) is Literal:
        return hint
    members = _members(hint)
    if len(members) > 1:
        kept = [kind for member in members if (kind := _typed(member)) is not None]
        if all(kind is type(None) for kind in kept):
            return None
        return Union[tuple(kept)]  # noqa: UP007
    if get_origin(hint) in (list, tuple, dict, Sequence, Mapping) and all(
        inner is ... or _typed(inner) is not None for inner in get_args(hint)
    ):
        return hint
    return None
