"""`brogue classify`: labels for texts, or tags for words, by a version that was trained with a classification head."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from adapters.registry import Registry, require_classifier
from assistant.cli_data_options import Json
from assistant.console import print_json, working
from data.errors import BrogueError, one_line
from data.home import Home
from data.settings import load_settings

if TYPE_CHECKING:
    from adapters.classifier import Chosen

Version = Annotated[str, typer.Argument(help="NAME@N of a version trained with --recipe labelled --head.")]


def classify(
    version: Version,
    text: Annotated[list[str] | None, typer.Argument(help="What to label.")] = None,
    file: Annotated[Path | None, typer.Option(help="A file with one text a line.")] = None,
    json: Json = False,
) -> None:
    """Say the label of each TEXT with its probability; or, of a version that tags, the tag of each word."""
    home = Home.from_environment()
    registry = Registry(home)
    require_classifier(registry.resolve(version))
    texts = _texts(text or [], file)
    with working("base model") as tell:
        from adapters.base_model import prepare
        from adapters.classifier import Classifier

        base = prepare(load_settings(home.settings_file).base_model, home, tell)
        tell(f"loading {version}")
        classifier = Classifier.load(registry, version, base)
        tell("reading")
        if classifier.tags:
            words = [one.split() for one in texts]
            tagged = list(zip(words, classifier.tag(words), strict=True))
            rows = [{"tokens": some, "tags": [_row(one) for one in found]} for some, found in tagged]
            lines = ["\n".join(map(_line, found, some)) + "\n" for some, found in tagged]
        else:
            labelled = list(zip(texts, classifier.predict(texts), strict=True))
            rows = [{"text": one, **_row(found)} for one, found in labelled]
            lines = [_line(found, one) for one, found in labelled]
    print_json(rows) if json else typer.echo("\n".join(lines))


def _texts(given: list[str], file: Path | None) -> list[str]:
    if (file is None) == (not given):
        raise BrogueError("wanted texts, or --file with one a line: brogue classify NAME@N 'a text'")
    if file is not None:
        try:
            given = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BrogueError(f"cannot read {file} ({one_line(error, 80)}); wanted a text file in UTF-8") from error
    texts = [one for one in given if one.strip()]
    if not texts:
        raise BrogueError("there is no text to label; wanted at least one that is not empty")
    return texts


def _row(found: "Chosen") -> dict[str, Any]:
    return {name: _rounded(value) for name, value in found.model_dump().items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {label: round(chance, 4) for label, chance in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def _line(found: "Chosen", text: str) -> str:
    return f"{found.label}\t{found.probability:.3f}\t{text}"
