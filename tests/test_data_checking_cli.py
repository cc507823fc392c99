"""`brogue data check` as a person meets it: in the terminal, as JSON, as a page, and before a training."""

import json
from pathlib import Path
from typing import Any

import pytest

from data.home import Home
from tests.conftest import Run
from tests.tiny_models import make_tokenizer


def lines(path: Path, *records: Any) -> str:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return str(path)


def shop(count: int = 30) -> list[dict[str, str]]:
    return [
        {"prompt": f"Where do I find article {n} in your {n * 7} shops?", "response": f"In aisle {n}, shelf {n * 3}."}
        for n in range(count)
    ]


def test_a_files_faults_are_errors_by_sort_with_their_lines(brogue: Run, tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}, {"role": "assistant", "content": "c"}]
    good = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": "Here."}]
    empty = [{"role": "user", "content": "Where is it?"}, {"role": "assistant", "content": " "}]
    path = lines(tmp_path / "a.jsonl", {"messages": good}, {"messages": turns}, {"messages": empty}, [1])
    done = brogue("data", "check", path, "--json")
    assert done.returncode == 1
    errors = [f for f in json.loads(done.stdout)["findings"] if f["severity"] == "error"]
    assert {f["check"]: f["examples"][0]["record"] for f in errors} == {
        "roles": f"{path}:2", "empty": f"{path}:3", "schema": f"{path}:4",
    }  # fmt: skip
    assert done.stderr.splitlines()[-1].startswith(f"brogue: {path}: 1 record is faulty")
    assert "--skip-faulty" in done.stderr


def test_a_file_of_faults_alone_is_reported_too(brogue: Run, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", {"prompt": "a", "response": ""}, {"prompt": "b", "response": ""})
    done = brogue("data", "check", path)
    assert done.returncode == 1
    assert "2 records are faulty: response is empty" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("nothing",), "no dataset 'nothing'; have: none yet"),
        (("nothing.csv",), "nothing.csv"),
        (("nothing", "--html", "no/such/folder/x.html"), "--html wants a file in a folder that is there"),
        (("nothing", "--exam", "none"), "no dataset 'none'"),
        (("nothing", "--exam", "nothing"), "cannot be its own exam"),
    ],
)
def test_what_cannot_be_checked_is_one_line(brogue: Run, words: tuple[str, ...], line: str) -> None:
    done = brogue("data", "check", *words)
    assert done.returncode == 1
    [said] = done.stderr.strip().splitlines()
    assert line in said


def test_a_page_never_overwrites_the_file_that_is_checked(brogue: Run, tmp_path: Path) -> None:
    path = lines(tmp_path / "a.jsonl", *shop(3))
    before = Path(path).read_text(encoding="utf-8")
    done = brogue("data", "check", path, "--html", str(tmp_path / "." / "a.jsonl"))
    assert done.returncode == 1
    assert "would overwrite" in done.stderr
    assert Path(path).read_text(encoding="utf-8") == before


def test_findings_are_printed_worst_first_with_what_to_type(brogue: Run, tmp_path: Path) -> None:
    rows = shop()
    rows += [rows[0], {"prompt": "My mail is [a@b]? a.person@example.org", "response": "Thank you, noted it."}]
    assert brogue("data", "import", lines(tmp_path / "a.jsonl", *rows), "--into", "shop").returncode == 0
    done = brogue("data", "check", "shop")
    assert done.returncode == 0, done.stderr
    assert "brogue data dedupe shop --into shop-clean" in done.stdout
    assert "brogue data redact shop --into shop-redacted" in done.stdout
    assert "a.person" not in done.stdout
    order = [word for line in done.stdout.splitlines() for word in ("warning", "note") if line.startswith(word)]
    assert order == sorted(order, reverse=True)


def test_lengths_are_in_the_base_models_own_tokens(brogue: Run, tmp_path: Path, home: Home) -> None:
    home.create()
    make_tokenizer(tmp_path / "model", "{{ messages }}")
    home.settings_file.write_text(f'base_model = "{tmp_path / "model"}"\n')
    path = lines(tmp_path / "a.jsonl", {"prompt": "zzzzzzzzzz", "response": "qqqqqqqqqq"})
    result = json.loads(brogue("data", "check", path, "--json").stdout)
    assert result["unit"] == "tokens"
    assert result["lengths"]["longest"] > 2  # one word each: this tokenizer knows no such words


def test_the_page_asks_for_nothing_and_holds_no_markup_of_the_data(brogue: Run, tmp_path: Path) -> None:
    rows = shop() + [{"prompt": "<script>alert(1)</script> $x$ & a.person@example.org", "response": "<b>No.</b>"}] * 2
    page = tmp_path / "report.html"
    done = brogue("data", "check", lines(tmp_path / "a.jsonl", *rows), "--html", str(page))
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "a.person" not in text
    assert text.count("<svg") >= 2
    for outside in ("src=", "<link", "@import", "url(http"):
        assert outside not in text


def test_labels_of_any_script_are_drawn(brogue: Run, tmp_path: Path) -> None:
    names = ["$a_b$", "<i>", "配送", "étiquette " * 5, "étiquette " * 6, "a" * 300]
    rows = [{"text": f"text {i} of class {name}", "label": name} for name in names for i in range(6)]
    page = tmp_path / "report.html"
    done = brogue("data", "check", lines(tmp_path / "a.jsonl", *rows), "--html", str(page))
    assert done.returncode == 0, done.stderr
    assert "配送" in page.read_text(encoding="utf-8")


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_its_window_and_loads_nothing(browser: Any, brogue: Run, tmp_path: Path, width: int) -> None:
    rows = [{"text": f"question {i} about things", "label": f"a_rather_long_class_name_{i % 25}"} for i in range(200)]
    page = tmp_path / "report.html"
    assert brogue("data", "check", lines(tmp_path / "a.jsonl", *rows), "--html", str(page)).returncode == 0
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark")
    window = context.new_page()
    asked_for: list[str] = []
    window.on("request", lambda request: asked_for.append(request.url))
    window.goto(page.as_uri())
    assert asked_for == [page.as_uri()]
    assert window.evaluate("document.documentElement.scrollWidth") <= width
    ink = window.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    assert ink == "rgb(230, 228, 223)", "a plot's letters have the colour of the page's"
    context.close()


def train(brogue: Run, home: Home, tmp_path: Path, *words: str) -> Any:
    """`brogue train` on dataset `shop` with a model that is a tokenizer and a config: no more is needed to refuse."""
    from transformers import LlamaForCausalLM

    from tests.tiny_models import make_model

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    folder = make_model(tmp_path / "model", LlamaForCausalLM, **sizes)
    home.settings_file.write_text(f'base_model = "{folder}"\n')
    return brogue("train", "voice", "--data", "shop", *words)


@pytest.mark.slow
def test_training_refuses_what_cannot_be_learnt_from_and_says_warnings(brogue: Run, tmp_path: Path, home: Home) -> None:
    rows = [{"prompt": f"Where is article {n}? Mail a{n}@example.org", "response": "word " * 60} for n in range(20)]
    assert brogue("data", "import", lines(tmp_path / "a.jsonl", *rows), "--into", "shop").returncode == 0
    done = train(brogue, home, tmp_path, "--max-tokens", "16")
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert any(line.startswith("warning: ") and "personal data" in line and "data redact" in line for line in said)
    assert "every train record has more than 16 tokens" in said[-1]
    assert "--max-tokens N" in said[-1]
    assert not (home.root / "adapters" / "voice").exists()
