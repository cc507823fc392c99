"""Example files to fill in: what is written can be imported, and explains itself."""

import json
from pathlib import Path

import pytest

from data.dataset import load_card, load_rows
from data.home import Home
from data.records import LabelledRecord, question
from data.templates import EXAMPLE, FORMS, Form, template
from tests.conftest import Run


@pytest.mark.parametrize("form", FORMS)
def test_every_template_imports_as_it_is_without_options(brogue: Run, home: Home, tmp_path: Path, form: Form) -> None:
    path = tmp_path / f"mine{template(form).suffix}"
    written = brogue("data", "template", form, "--to", str(path))
    assert written.returncode == 0, written.stderr
    assert f"next: fill it in, then brogue data import {path} --as {template(form).kind}" in written.stderr
    done = brogue("data", "import", str(path), "--into", "mine")
    assert done.returncode == 0, done.stderr
    assert load_card(home, "mine").kind == template(form).kind
    rows = load_rows(home, "mine")
    assert all(EXAMPLE in question(row.record) for row in rows), "an example that was left in can be found"
    if form.startswith("labelled"):
        assert all(isinstance(r.record, LabelledRecord) and bool(r.record.tokens) == ("tokens" in form) for r in rows)


@pytest.mark.parametrize("form", FORMS)
def test_a_template_without_a_file_is_printed_alone_with_its_notes_beside_it(brogue: Run, form: Form) -> None:
    done = brogue("data", "template", form)
    assert done.stdout == template(form).text
    assert all(f"# {note}" in done.stderr for note in template(form).notes)


def test_json_templates_carry_their_notes_as_texts_that_are_no_records(brogue: Run) -> None:
    held = json.loads(brogue("data", "template", "chat").stdout)
    notes = [value for name, value in held.items() if name.startswith("note")]
    assert notes == list(template("chat").notes)
    assert held.keys() - {f"note {n}" for n in range(1, len(notes) + 1)} == {"records"}


def test_a_mistake_is_answered_in_one_line(brogue: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("my own work")
    for words, line in (
        (("instruction", "--to", str(path)), f"brogue: {path} exists already; choose another name or add --replace"),
        (
            ("chat", "--to", str(path)),
            f"brogue: a file for chat records ends in .json; wanted --to {tmp_path}/",
        ),
        (("chat", "--to", "/proc/nowhere/x.json"), "brogue: cannot write /proc/nowhere/x.json"),
    ):
        done = brogue("data", "template", *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
        assert done.stderr.startswith(line), done.stderr
    assert path.read_text() == "my own work"
    assert brogue("data", "template", "nonsense").returncode == 2
