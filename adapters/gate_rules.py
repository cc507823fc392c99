"""The rules of a gate: YAML files in `<home>/gates/`, or shipped with us in `adapters/gates/`; read and checked.

A rule is one line of text. It holds a figure against a number, or a version against the one before it:

    NAME[.FIELD] >= NUMBER            the field: value, low, high, n; over.against.low, over.base.low …; none: all of it
    NAME better [than base] [by MARGIN]
    NAME not_worse [than base] [by MARGIN]
    NAME not_clearly_worse [than base] by MARGIN

Names may hold `*` as in fnmatch. A margin ending in % is a part of what the other one has. `unless:` beside a rule has
rules that excuse it. docs/gate.md says how each is judged. No torch, no network.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import yaml

from data.errors import BrogueError, DataError, one_line, unknown
from data.home import NAME_PATTERN, Home

SHIPPED = Path(__file__).parent / "gates"
DEFAULT = "default"
ITEMS = 20
KEYS = ("about", "items", "rules")
WAYS = ("better", "not_worse", "not_clearly_worse")
FIELDS = ("value", "low", "high", "n", "over.against.low", "over.base.low", "…")
_WANTED = "wanted '- RULE', '- optional: RULE', or '- any:' with a list of rules; beside a rule: 'unless:' with a list"
_FORMS = f"NAME.FIELD >= NUMBER, NAME {', NAME '.join(WAYS)} [than base] [by MARGIN]"
_BOUND = re.compile(r"(?P<name>[^\s<>=!]+)\s*(?P<op>[<>=!]+)\s*(?P<number>\S+)")
_CHANGE = re.compile(r"(?P<name>\S+)\s+(?P<way>\w+)(?:\s+than\s+(?P<than>\S+))?(?:\s+by\s+(?P<margin>\S+))?")
_FIELD = re.compile(r"(?P<name>.+?)(?:\.over\.(?P<over>against|base))?(?:\.(?P<field>value|low|high|n))?")
_NAME = re.compile(r"[\w.*?\[\]!-]+")

Op = Literal[">=", "<=", ">", "<"]
Way = Literal["better", "not_worse", "not_clearly_worse"]


class Bound(NamedTuple):
    """A figure held against a number."""

    field: str  # value, low, high or n; "interval": the whole of it
    over: Literal["against", "base"] | None  # of the difference to that arm, instead of the figure itself
    op: Op
    number: float


class Change(NamedTuple):
    """A version held against another arm, in the measure's own direction."""

    way: Way
    than: Literal["against", "base"]
    margin: float | None
    relative: bool  # the margin is a part of the other arm's figure


class Rule(NamedTuple):
    """One rule over all figures of a name."""

    text: str  # as written
    name: str  # a pattern of figures' names
    says: Bound | Change
    optional: bool = False  # passed over where the exam has no such figure
    unless: tuple["Rule", ...] = ()  # where it does not pass, it is enough that one of these does


class AnyOf(NamedTuple):
    """Rules of which it is enough that one figure passes."""

    text: str
    rules: tuple[Rule, ...]


class Gate(NamedTuple):
    """What a version must pass."""

    name: str
    about: str
    items: int  # a figure of fewer items decides nothing
    rules: tuple[Rule | AnyOf, ...]
    path: Path


def load_gate(home: Home, name: str) -> Gate:
    """The gate called `name` (the home's own before the one that we ship), or of the file at that path.

    Raises `BrogueError` with file and line for whatever is wrong in it.
    """
    if name.endswith((".yaml", ".yml")):
        return read_gate(Path(name))
    places = [folder / f"{name}.yaml" for folder in _folders(home)] if re.match(NAME_PATTERN, name) else []
    for path in places:
        if path.is_file():
            return read_gate(path)
    raise unknown("gate", name, names(home), f"Or write {home.root / 'gates' / 'NAME.yaml'}; docs/gate.md says how")


def names(home: Home) -> list[str]:
    """The gates that there are, by name."""
    return sorted({path.stem for folder in _folders(home) for path in folder.glob("*.yaml")})


def _folders(home: Home) -> tuple[Path, Path]:
    return home.root / "gates", SHIPPED


def read_gate(path: Path) -> Gate:
    """The gate in a YAML file."""
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = "; a rule that begins with * stands in quotes" if "alias" in str(error) else ""
        raise DataError(f"{path}:{line}: not YAML: {one_line(error.problem, 120)}{hint}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not readable as YAML: {one_line(error, 120)}") from error
    if not isinstance(root, yaml.MappingNode):
        raise DataError(f"{path}:1: wanted the key 'rules:' with a list below it; known keys: {', '.join(KEYS)}")
    found = {key.value: (key, value) for key, value in root.value}
    for key, _ in found.values():
        if key.value not in KEYS:
            raise _wrong(path, key, f"unknown key '{key.value}'; known: {', '.join(KEYS)}")
    rules = tuple(_rules(path, *found["rules"])) if "rules" in found else ()
    if not rules:
        raise DataError(f"{path}: no rules, so nothing could ever pass or fail; wanted 'rules:' with a list below it")
    about = found["about"][1].value if "about" in found else ""
    return Gate(path.stem, " ".join(str(about).split()), _items(path, found["items"][1]) if "items" in found else ITEMS,
                rules, path)  # fmt: skip


def _items(path: Path, node: yaml.Node) -> int:
    if not str(node.value).isdecimal() or int(node.value) < 1:
        raise _wrong(path, node, f"items: wanted a whole number from 1, found '{one_line(node.value, 40)}'")
    return int(node.value)


def _rules(path: Path, key: yaml.Node, node: yaml.Node) -> Iterator[Rule | AnyOf]:
    if not isinstance(node, yaml.SequenceNode):
        raise _wrong(path, key, f"{key.value}: wanted a list, a line '- RULE' for each")
    for entry in node.value:
        pairs = entry.value if isinstance(entry, yaml.MappingNode) else []
        keys = {inner.value: (inner, value) for inner, value in pairs}
        if set(keys) == {"any"} and key.value == "rules":
            rules = _plain(path, *keys["any"])
            yield AnyOf("any: " + "; ".join(rule.text for rule in rules), rules)
        elif set(keys) in ({"optional"}, {"optional", "unless"}, {"rule", "unless"}) and key.value != "unless":
            unless = _plain(path, *keys["unless"]) if "unless" in keys else ()
            optional = "optional" in keys or key.value == "any"
            yield _rule(path, (keys.get("optional") or keys["rule"])[1], optional)._replace(unless=unless)
        elif not pairs:
            yield _rule(path, entry, key.value == "any")
        else:
            raise _wrong(path, entry, _WANTED)


def _plain(path: Path, key: yaml.Node, node: yaml.Node) -> tuple[Rule, ...]:
    """The rules of a list below `any:` or `unless:`."""
    rules = tuple(rule for rule in _rules(path, key, node) if isinstance(rule, Rule))
    if not rules:
        raise _wrong(path, node, f"{key.value}: no rules below it")
    return rules


def _rule(path: Path, node: yaml.Node, optional: bool) -> Rule:
    if not isinstance(node, yaml.ScalarNode):
        raise _wrong(path, node, _WANTED)
    try:
        return parse_rule(node.value, optional)
    except BrogueError as error:
        raise _wrong(path, node, str(error)) from error


def _wrong(path: Path, node: yaml.Node, what: str) -> DataError:
    return DataError(f"{path}:{node.start_mark.line + 1}: {what}")


def parse_rule(text: str, optional: bool = False) -> Rule:
    """A rule from its line of text. Raises `BrogueError`, which says what is known."""
    line = " ".join(text.split())
    if (bound := _BOUND.fullmatch(line)) is not None:
        name, says = _bound(line, bound)
        return Rule(line, _pattern(name), says, optional)
    if (change := _CHANGE.fullmatch(line)) is not None and change["way"] in WAYS:
        return Rule(line, _pattern(change["name"]), _change(line, change), optional)
    raise BrogueError(f"cannot read the rule '{one_line(line, 80)}'; known forms: {_FORMS}")


def _change(line: str, found: re.Match[str]) -> Change:
    ways: dict[str, Way] = {"better": "better", "not_worse": "not_worse", "not_clearly_worse": "not_clearly_worse"}
    if found["than"] not in (None, "base"):
        raise BrogueError(f"'{line}': than '{found['than']}'; known: than base (without it: the version before)")
    margin, relative = None, False
    if found["margin"] is not None:
        relative = found["margin"].endswith("%")
        margin = _number(line, found["margin"].removesuffix("%")) / (100 if relative else 1)
        if margin < 0:
            raise BrogueError(f"'{line}': a margin is not negative")
    elif found["way"] == "not_clearly_worse":
        raise BrogueError(f"'{line}': wanted a margin, such as 'by 0.05' or 'by 10%'")
    return Change(ways[found["way"]], "base" if found["than"] else "against", margin, relative)


def _bound(line: str, found: re.Match[str]) -> tuple[str, Bound]:
    ops: dict[str, Op] = {">=": ">=", "<=": "<=", ">": ">", "<": "<"}
    if found["op"] not in ops:
        raise BrogueError(f"'{line}': no comparison '{found['op']}'; known: {', '.join(ops)}")
    parts = _FIELD.fullmatch(found["name"])
    assert parts is not None  # it takes any text
    over: Literal["against", "base"] | None = None
    if parts["over"]:
        over = "base" if parts["over"] == "base" else "against"
    if parts["field"] == "n" and over or ".over." in parts["name"]:
        raise BrogueError(f"'{line}': no field in '{found['name']}'; known: {', '.join(FIELDS)}")
    return parts["name"], Bound(parts["field"] or "interval", over, ops[found["op"]], _number(line, found["number"]))


def _number(line: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise BrogueError(f"'{line}': '{text}' is no number") from error
    if number != number or number in (float("inf"), float("-inf")):
        raise BrogueError(f"'{line}': '{text}' is no number to compare with")
    return number


def _pattern(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BrogueError(f"'{name}' names no figure; wanted such as task.exact_match or safety.*")
    return name
