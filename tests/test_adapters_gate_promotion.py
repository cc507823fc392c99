"""A version that failed its exam goes live only by force, by command, over HTTP and on the page; the history tells."""

import json
from pathlib import Path

import httpx
import pytest

from adapters.registry import Registry
from assistant.starter import point_stable_at_base
from assistant.ui_versions import Plan, adapters_html
from data.errors import BrogueError
from data.home import Home, write_text
from tests.fakes import FakeGateway, add_version
from tests.gate_exams import verdict
from tests.scripted_gateway import adapter
from tests.swapping import put
from tests.swapping import run as tell
from tests.swapping import voices as voices
from tests.test_adapters_validation import BASE
from tests.test_assistant_cli_versions import base as base
from tests.test_assistant_cli_versions import refusal, run
from tests.test_assistant_ui_adapters import text_of

WHY = "failed its exam (gate 'default', exam a-2-0f3c): safety.toxic is 0.400 against 0.010 of a@1: worse by 0.390"


def test_a_verdict_lies_beside_its_version_and_goes_with_it(voices: Home) -> None:
    registry = Registry(voices)
    assert registry.verdict("reed-voice", 2) is None
    registry.keep_verdict("reed-voice", 2, verdict("pass"))
    registry.keep_verdict("reed-voice", 2, verdict("fail"))
    assert registry.verdict("reed-voice", 2) == verdict("fail")
    assert [path.name for path in registry.folder("reed-voice", 2).iterdir() if "verdict" in path.name] == []
    with pytest.raises(BrogueError, match="no version 'reed-voice@9'"):
        registry.keep_verdict("reed-voice", 9, verdict())
    registry.retire("reed-voice", 2)
    registry.purge_retired()
    assert not list((voices.adapters / "reed-voice").glob("2.*"))


def test_what_is_no_verdict_is_one_line_and_lets_nobody_through(voices: Home) -> None:
    write_text(voices.adapters / "reed-voice" / "2.verdict.json", '{"result": "perfect"}')
    with pytest.raises(BrogueError, match=r"2.verdict.json: not a verdict .*examine .* brogue exam reed-voice@2"):
        Registry(voices).move("reed-voice", "stable", 2)


@pytest.mark.usefixtures("base")
def test_by_command_a_version_that_failed_is_promoted_only_by_force(home: Home) -> None:
    registry = Registry(home)
    registry.keep_verdict("a", 2, verdict())
    assert refusal("promote", "a@2") == f"a@2 {WHY}; to use it all the same, add --force"
    assert refusal("canary", "a@2").endswith("add --force")
    assert registry.aliases("a") == {"stable": 1}
    assert run("promote", "a@2", "--candidate").stdout == "a@2 is candidate\n"  # nobody meets a candidate
    done = run("promote", "a@2", "--force", "--why", "the shop wants it")
    assert done.stdout == "a@2 is stable now, instead of a@1\n"
    assert f"a@2 {WHY}\n" in done.stderr
    shown = run("show", "a@2").stdout
    assert f"the shop wants it [forced: it {WHY}]" in shown
    assert "exam: fail (gate default, exam a-2-0f3c, 2026-11-21T09:30:00+00:00)" in shown
    assert "  fail: safety.* not_worse: safety.toxic is 0.400" in shown
    history = json.loads(run("show", "a@2", "--json").stdout)["history"]
    assert [move["against"] for move in history if move["alias"] == "stable"] == [WHY, ""]
    run("promote", "a@3")
    assert run("rollback", "a").stdout == "a@2 is stable now, instead of a@3\n"  # back is always possible


@pytest.mark.usefixtures("base")
def test_by_command_every_promotion_says_what_the_exam_said(home: Home) -> None:
    assert "a@2 has not been examined; do it: brogue exam a@2\n" in run("promote", "a@2").stderr
    Registry(home).keep_verdict("a", 3, verdict("not enough evidence", "s.x is 0.5"))
    assert "a@3 has too little evidence for a verdict (gate 'default'" in run("promote", "a@3").stderr
    Registry(home).keep_verdict("a", 1, verdict("pass"))
    assert "a@1 passed its exam (gate 'default', exam a-2-0f3c)\n" in run("promote", "a@1").stderr
    listed = json.loads(run("list", "--json").stdout)
    assert [one["verdict"] and one["verdict"]["result"] for one in listed] == ["pass", None, "not enough evidence"]
    assert listed[0]["verdict"]["words"].startswith("passed its exam")


def test_a_start_on_another_base_model_passes_over_a_version_that_failed(home: Home) -> None:
    for sha in ("old", BASE.sha256, BASE.sha256):
        add_version(home, "a", base=sha)
    Registry(home).keep_verdict("a", 3, verdict())
    assert point_stable_at_base(home, BASE) == ["a@2"]
    assert Registry(home).aliases("a") == {"stable": 2}


def test_over_http_a_version_that_failed_is_promoted_only_by_force(voices: Home) -> None:
    Registry(voices).keep_verdict("reed-voice", 2, verdict())
    gateway = FakeGateway(voices)

    async def story(client: httpx.AsyncClient) -> None:
        refused = await put(client, "reed-voice", "stable", 2)
        assert refused.status_code == 409 and refused.json()["error"]["message"].startswith(f"reed-voice@2 {WHY}")
        assert not any(name.startswith("reed-voice@2") for name in gateway.engine.loaded), "it was not even loaded"
        assert (await put(client, "reed-voice", "canary", 2, share=5)).status_code == 409
        assert (await put(client, "reed-voice", "candidate", 2)).status_code == 200
        forced = (await put(client, "reed-voice", "stable", 2, force=True, who="ann")).json()["adapter"]
        assert forced["aliases"] == {"stable": 2}
        assert [move["against"] for move in forced["history"] if move["alias"] == "stable"] == [WHY, ""]
        assert {one["version"]: one["verdict"] and one["verdict"]["words"] for one in forced["versions"]} == {
            1: None, 2: WHY, 3: None,
        }  # fmt: skip
        assert (await put(client, "reed-voice", "stable", 3)).status_code == 200
        assert (await client.post("/v1/adapters/reed-voice/rollback", json={})).json()["after"] == 2

    tell(gateway, story)


@pytest.mark.parametrize(
    ("said", "sentence", "button"),
    [
        (None, "It has not been examined.", "Promote version 3"),
        (verdict("pass"), "It passed its exam.", "Promote version 3"),
        (verdict("not enough evidence", "s <x>"), "Its exam has too little evidence for a verdict: s &lt;x&gt;.",
         "Promote version 3"),
        (verdict("fail"), "It failed its exam: safety.toxic is 0.400", "Promote version 3 all the same"),
    ],
)  # fmt: skip
def test_on_the_page_the_question_says_what_the_exam_said(said: object, sentence: str, button: str) -> None:
    one = adapter()
    one["versions"][2]["verdict"] = said.model_dump() if said is not None else None  # type: ignore[attr-defined]
    html = adapters_html([one], asked=Plan("promote", "reed-voice", 2, 3))
    assert sentence in html and f">{button}</button>" in html
    assert ('data-force="yes"' in html) == (button.endswith("same"))
    assert "exam" not in text_of(adapters_html([one], asked=Plan("rollback", "reed-voice", 2, 1)))


def test_what_was_confirmed_on_the_page_is_forced_only_if_the_question_said_so() -> None:
    data = {"move": "promote", "adapter": "a", "before": "1", "after": "2"}
    assert not Plan.of(data).force
    assert Plan.of(data | {"force": "yes"}).force


def test_the_history_on_the_page_says_that_a_move_was_forced() -> None:
    one = adapter()
    one["history"][1]["against"] = WHY
    assert "stable from version 1 to version 2 by page, although it failed its exam: promoted" in text_of(
        adapters_html([one])
    )


def test_the_gates_are_listed_and_shown_as_they_are_written(home: Home) -> None:
    from typer.testing import CliRunner

    from assistant.cli_app import app

    def gates(*words: str) -> str:
        done = CliRunner().invoke(app, ["gates", *words], catch_exceptions=False)
        return done.stdout

    file = write_mine(home)
    assert [(one["name"], one["rules"]) for one in json.loads(gates("list", "--json"))][1] == ("mine", 1)
    assert "shipped" in gates("list")
    assert gates("show", "mine") == file.read_text()
    assert json.loads(gates("show", "mine", "--json"))["rules"] == [{"rule": "s.x better", "optional": False}]
    assert "safety.* not_worse" in gates("show", "default")


def write_mine(home: Home) -> Path:
    path = home.root / "gates" / "mine.yaml"
    write_text(path, "# by hand\nrules:\n- s.x better\n")
    return path
