"""Suites: what a version is examined in. YAML in `<home>/suites/<name>.yaml`, a file, or a folder of JSONL files.

Without one, the suite follows from what the adapter was trained on and what the home has (`default_suite`).
"""

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from adapters.exam_types import Part, Suite
from adapters.measures import MEASURES
from adapters.registry import AdapterCard, Registry
from data.dataset import DatasetCard, list_datasets, load_card
from data.errors import BrogueError, DataError, unknown
from data.formats_files import file_type, read_rows
from data.home import Home
from data.importing import stream_file
from data.records import Kind
from data.settings import first_problem
from data.yaml_files import read_mapping

DEFAULT = "default"
_MEASURE_OF: dict[Kind, str] = {"chat": "task", "instruction": "task", "labelled": "task", "preference": "preference",
                                "ranking": "preference"}  # fmt: skip
_ITEMS = 100  # of a part of the default suite, at most
_OWN = ("voice", "repetition", "cost", "rude")  # they ask the task's own questions, so that they are asked once
_SHIPPED = ("forgetting", "facts", "fairness", "safety")


def load_suite(home: Home, given: str) -> Suite:
    """The suite of a name in the home, a YAML file, or a folder of JSONL files. Raises `BrogueError`, one line."""
    path = Path(given).expanduser()
    if "/" in given or path.suffix in (".yaml", ".yml") or path.is_dir():
        if not path.exists():
            raise BrogueError(f"{path}: no such suite; wanted a YAML file, a folder of JSONL files, or a suite's name")
        return _of_folder(path.resolve()) if path.is_dir() else _of_file(home, path.resolve())
    path = _folder(home) / f"{given}.yaml"
    if not path.is_file():
        raise unknown("suite", given, [DEFAULT, *names(home)], f"Write one: {path} (docs/exam.md shows how)")
    return _of_file(home, path)


def suite_for(home: Home, card: AdapterCard, given: str | None) -> tuple[Suite, list[str] | None]:
    """(the suite that is meant, what it leaves out: none for one that a person wrote).

    A suite of the home that is called 'default' takes the place of ours.
    """
    if given in (None, DEFAULT) and DEFAULT not in names(home):
        return default_suite(home, card)
    return load_suite(home, given or DEFAULT), None


def names(home: Home) -> list[str]:
    """The suites of the home."""
    return sorted(path.stem for path in _folder(home).glob("*.yaml"))


def default_suite(home: Home, card: AdapterCard) -> tuple[Suite, list[str]]:
    """(the suite for a version, what it leaves out and why): its own records, people's choices, what is shipped."""
    held = _datasets_of(home, card)
    tasks = [one for one in held if _MEASURE_OF.get(one.kind) == "task"]
    choices = [one for one in held if _MEASURE_OF.get(one.kind) == "preference"]
    parts, left = [], []
    if tasks:
        parts.append(Part(measure="task", data=tasks[0].name, limit=_ITEMS))
    else:
        left.append(f"task: {card.adapter} has no dataset with answers and test records; see: brogue data list")
    if choices:
        parts.append(Part(measure="preference", data=choices[0].name))
    else:
        left.append(f"preference: no held-out judgements for {card.adapter}; collect some: brogue data collect")
    if own := [*tasks, *choices][:1]:
        fitting = [name for name in _OWN if own[0].kind != "labelled" or name == "cost"]
        parts += [
            Part(measure=name, name="safety.own" if name == "rude" else "", data=own[0].name, limit=_ITEMS)
            for name in fitting
        ]
    parts += [Part(measure=name, limit=_ITEMS) for name in _SHIPPED]
    if card.dataset in {one.name for one in list_datasets(home)}:
        parts.append(Part(measure="leak", name="safety.leak", data=card.dataset, limit=50))
    else:
        left.append(f"safety.leak: the dataset '{card.dataset}' that {card.name} learnt from is not here any more")
    return Suite(name=DEFAULT, parts=tuple(parts)), left


def _datasets_of(home: Home, card: AdapterCard) -> list[DatasetCard]:
    """Datasets with test records that this adapter's versions learnt from or that bear its name, the nearest first."""
    registry = Registry(home)
    learnt = [card.dataset]
    for number in sorted(registry.versions(card.adapter), reverse=True):
        try:
            learnt.append(registry.card(card.adapter, number).dataset)
        except BrogueError:
            continue  # a broken card says nothing of its data
    there = {one.name: one for one in list_datasets(home) if one.records.get("test")}
    named = sorted((one for one in there.values() if one.name.startswith(card.adapter)), key=lambda one: one.created)
    order = dict.fromkeys([*learnt, *(one.name for one in reversed(named))])
    return [there[name] for name in order if name in there]


def _of_file(home: Home, path: Path) -> Suite:
    raw = read_mapping(path, "'parts:' with a list of measures")
    try:
        suite = Suite.model_validate({"name": path.stem} | raw)
    except ValidationError as error:
        raise BrogueError(f"{path}: {first_problem(error, Suite)}") from error
    return _checked(path, suite.model_copy(update={"parts": tuple(_placed(home, path, one) for one in suite.parts)}))


def _of_folder(path: Path) -> Suite:
    """A part for each file: its measure follows from what its lines hold, its name is the file's."""
    if (own := path / "suite.yaml").is_file():
        raise BrogueError(f"{path}: the folder has a suite of its own; name that: --suite {own}")
    files = sorted(one for one in path.iterdir() if one.suffix in (".jsonl", ".ndjson"))
    if not files:
        raise BrogueError(f"{path}: no JSONL files in this folder; wanted one for each part of the exam")
    parts = tuple(Part(measure=_measure_of(one), name=one.stem, data=str(one)) for one in files)
    return _checked(path, Suite(name=path.name, parts=parts))


def _measure_of(path: Path) -> str:
    first = next((row for _, row, _ in read_rows(path, file_type(path)) if isinstance(row, dict)), None)
    if first is None:
        raise DataError(f"{path}: no JSON objects in it")
    if "choices" in first or set(first) == {"text"}:
        return "forgetting"  # multiple choice, and plain texts
    try:
        imported, _ = stream_file(path, None, {})
        return _MEASURE_OF[imported.kind]
    except (DataError, KeyError) as error:
        raise DataError(
            f"{path}: cannot tell which measure takes lines with {', '.join(first)}; say it in a suite's YAML file: "
            "parts: [{measure: NAME, data: " + path.name + "}]"
        ) from error


def _placed(home: Home, path: Path, part: Part) -> Part:
    """The part with its file's whole path, or its dataset's name."""
    if part.data is None:
        return part
    file = (path.parent / Path(part.data).expanduser()).resolve()
    if file.is_file():
        return part.model_copy(update={"data": str(file)})
    if "/" in part.data or Path(part.data).suffix in (".jsonl", ".json", ".csv"):
        raise BrogueError(f"{path}: part '{part.prefix}' names {part.data}, and there is no file {file}")
    load_card(home, part.data)
    return part


def _checked(path: Path, suite: Suite) -> Suite:
    """The suite, if its measures are known and its parts have names of their own."""
    if not suite.parts:
        raise BrogueError(f"{path}: no parts; wanted at least one of: {', '.join(sorted(MEASURES))}")
    for prefix, measure in _prefixes(suite):
        if measure not in MEASURES:
            known = ", ".join(sorted(MEASURES))
            raise BrogueError(f"{path}: no measure '{measure}'; have: {known}. See docs/exam-measures.md")
        if [one for one, _ in _prefixes(suite)].count(prefix) > 1:
            raise BrogueError(f"{path}: two parts are called '{prefix}'; give each a name of its own: name: …")
    return suite


def _prefixes(suite: Suite) -> Iterator[tuple[str, str]]:
    return ((part.prefix, part.measure) for part in suite.parts)


def _folder(home: Home) -> Path:
    return home.root / "suites"
