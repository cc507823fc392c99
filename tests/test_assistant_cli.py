"""The command line as a person meets it: results, refusals in one line, exit codes."""

import json
import os
import socket
import stat
from pathlib import Path

import pytest

from data.home import Home, write_text
from tests.conftest import Run
from tests.fakes import add_assistant, add_version


def csv_file(tmp_path: Path, text: str = "q,a\nOpen?,Yes.\nLate?,No.\n") -> str:
    path = tmp_path / "chats.csv"
    path.write_text(text)
    return str(path)


def refusal(brogue: Run, *words: str) -> str:
    """The one line on stderr of a command that is refused."""
    done = brogue(*words)
    assert done.returncode == 1, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("brogue: ")
    return lines[0]


def test_a_file_is_imported_listed_and_checked(brogue: Run, tmp_path: Path) -> None:
    options = ("--as", "instruction", "--prompt-column", "q", "--response-column", "a", "--into", "chats")
    done = brogue("data", "import", csv_file(tmp_path), *options)
    assert done.returncode == 0, done.stderr
    assert "chats: 2 rows checked, all valid" in done.stdout
    [card] = json.loads(brogue("data", "list", "--json").stdout)
    assert sum(card["records"].values()) == 2
    assert "records: 2 (train" in brogue("data", "check", "chats").stdout


def test_a_check_of_a_file_lists_every_fault_and_exits_with_1(brogue: Run, tmp_path: Path) -> None:
    path = csv_file(tmp_path, "prompt,response\na,\nb,\nc,d\n")
    done = brogue("data", "check", path, "--as", "instruction")
    assert done.returncode == 1
    assert f"{path}:2  response is empty" in done.stdout
    assert f"{path}:3  response is empty" in done.stdout


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("", (), "the file is empty"),
        ('q,a\n"x,y\n', (), "chats.csv:2: broken CSV"),
        ("q,a\nx,y\n", ("--prompt-column", "frage"), "no column 'frage'; the columns are: q, a"),
        ("prompt,response\nx,\n", (), "chats.csv:2: response is empty; nothing was imported"),
        ("prompt,response\nx,y\n", ("--split", "90/20/10"), "--split wants three percentages"),
        ("prompt,response\nx,y\n", ("--into", "No Name"), "cannot name a dataset"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line(
    brogue: Run, tmp_path: Path, home: Home, text: str, options: tuple[str, ...], words: str
) -> None:
    into = () if "--into" in options else ("--into", "chats")
    assert words in refusal(brogue, "data", "import", csv_file(tmp_path, text), "--as", "instruction", *into, *options)
    assert not list(home.datasets.glob("*"))


def test_unknown_names_are_answered_with_what_there_is(brogue: Run, home: Home) -> None:
    add_assistant(home, "reed", "description: d")
    add_version(home, "reed-voice")
    assert "no assistant 'red'; have: reed" in refusal(brogue, "assistants", "show", "red")
    assert "no adapter 'red'; have: reed-voice" in refusal(brogue, "adapters", "show", "red")
    assert "no dataset 'red'; have: none yet" in refusal(brogue, "train", "a", "--data", "red")


def test_empty_lists_say_what_to_do_next(brogue: Run) -> None:
    for words, hint in (
        (("data",), "brogue data import"),
        (("adapters",), "brogue train"),
        (("assistants",), "brogue up"),
    ):
        done = brogue(*words, "list")
        assert (done.returncode, done.stdout) == (0, "")
        assert hint in done.stderr
        assert json.loads(brogue(*words, "list", "--json").stdout) == []


def test_adapters_are_shown_with_alias_and_scores(brogue: Run, home: Home) -> None:
    add_version(home, "reed-voice")
    assert "reed-voice@1" in brogue("adapters", "list").stdout
    assert json.loads(brogue("adapters", "show", "reed-voice", "--json").stdout)["aliases"] == ["stable"]


def test_a_port_in_use_is_one_line_before_anything_is_made(brogue: Run, home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = refusal(brogue, "up", "--port", port)
        assert f"gateway cannot listen at 127.0.0.1:{port} (Address already in use)" in line
        assert "page cannot listen" in refusal(brogue, "up", "--port", _free(), "--page-port", port)
    assert not home.models.exists()


def _free() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_home_that_cannot_be_written_is_one_line(
    brogue: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:
        blocked = tmp_path / "file"  # root may write anywhere, but not below a file
        blocked.write_text("")
    else:
        blocked = tmp_path / "locked"
        blocked.mkdir()
        blocked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.setenv("BROGUE_HOME", str(blocked / "home"))
    assert "cannot write to the home folder" in refusal(brogue, "up")


def test_a_base_model_without_weights_is_one_line_before_anything_starts(
    brogue: Run, home: Home, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    write_text(home.settings_file, f'base_model = "{tmp_path / "model"}"')
    done = brogue("up", "--port", _free(), "--page-port", _free())
    assert done.returncode == 1
    assert "has no weights (*.safetensors); found: config.json" in done.stderr.splitlines()[-1]
    assert not home.logs.exists(), "nothing was started"


def test_chat_without_a_gateway_says_how_to_start_it(brogue: Run, home: Home) -> None:
    write_text(home.settings_file, f"[gateway]\nport = {_free()}")
    assert "start it: brogue up" in refusal(brogue, "chat", "reed", "Hi")


def test_status_and_down_with_nothing_running_say_so(brogue: Run) -> None:
    done = brogue("status")
    assert (done.returncode, done.stderr.strip()) == (1, "nothing is running; start it: brogue up")
    assert brogue("down").stdout.strip() == "nothing was running"


def test_wrong_usage_is_exit_code_2(brogue: Run) -> None:
    assert brogue("data", "import").returncode == 2
    assert brogue("nonsense").returncode == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: other", "name is 'other', but the file is called reed.yaml"),
        ("name: reed\nadaptor: x", "unknown key 'adaptor'; known keys here: adapter, answer, brand"),
        ("name: reed\nsampling: {temperature: 9}", "sampling.temperature"),
        ("name: [", "not readable as YAML"),
        ("", "wanted keys such as 'name:'"),
    ],
)
def test_a_broken_assistant_file_is_one_line_with_its_name(brogue: Run, home: Home, text: str, words: str) -> None:
    write_text(home.assistants / "reed.yaml", text)
    line = refusal(brogue, "assistants", "list")
    assert words in line
    assert "reed.yaml" in line


def test_doctor_finds_what_is_wrong_with_the_settings(brogue: Run, home: Home) -> None:
    write_text(home.settings_file, "base_modle = 1")
    done = brogue("doctor")
    assert done.returncode == 1
    assert "FAIL  settings" in done.stdout
