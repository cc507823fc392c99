"""The advisor's arms of another base model: a home and an engine for it, which never stay behind; what arms cost."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from adapters.base_model import BaseModel, prepare
from adapters.exam_types import Interval, Measured
from assistant import advice_cost, advice_other
from assistant.advice_other import as_toml, how_to_use, other_arms, other_base
from assistant.advice_types import Arm, Figures, Ready
from assistant.definitions import Assistant, ExamplesFrom
from assistant.services import load_services
from data.errors import BrogueError
from data.home import NAME_PATTERN, Home, write_text
from data.settings import PriceSettings, Settings, load_settings
from tests.conftest import Run
from tests.fakes import add_version
from tests.tiny_models import tiny_llama

# `brogue up` as far as the advisor sees it: what runs stands in services.json. Its first starts may fail.
UP = """
import subprocess, sys
from pathlib import Path
from assistant.services import Child, Services, load_services
from data.home import Home
home, failures = Home.from_environment(), sys.argv[1].split("|")
print("engine: loading", file=sys.stderr, flush=True)
if load_services(home) is None:
    starts = home.root / "starts"
    starts.write_text((starts.read_text() if starts.exists() else "") + "x")
    if any(failures[len(starts.read_text()) - 1 :][:1]):
        sys.exit(failures[len(starts.read_text()) - 1])
    child = subprocess.Popen(["sleep", "300"], start_new_session=True, stderr=subprocess.DEVNULL)
    Services(supervisor=Child.of(child.pid), gateway_url=f"http://127.0.0.1:{sys.argv[4]}", page_url="", base_model="b",
             engine_state="ready").save(home)
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("other"))


@pytest.fixture
def up(home: Home, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another base's `brogue up` takes a moment; `up("words")` lets it fail with these words at first."""
    home.create()
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))

    def failing(*words: str) -> None:
        monkeypatch.setattr(advice_other, "COMMAND", (sys.executable, "-c", UP, "|".join(words)))

    failing()
    return failing


def running(home: Home) -> list[Home]:
    return [Home(path.parent) for path in home.root.glob("advice/*/other/*/services.json")]


def test_another_base_model_has_a_home_and_an_engine_as_long_as_it_is_asked(up: Any, home: Home, tiny: Path) -> None:
    assert up
    write_text(home.settings_file, "[prices]\nanswer_per_million = 2\n[gateway]\nhost = '0.0.0.0'\nport = 8000\n")
    said: list[str] = []
    with other_base(home, "0a1b2c3d", str(tiny), said.append) as other:
        assert other.home.root == home.root / "advice" / "0a1b2c3d" / "other" / "tiny"
        assert re.fullmatch(r"http://127.0.0.1:\d+", other.gateway.url)
        assert other.base == prepare(str(tiny), home, print), "what is known of it is not found out twice"
        theirs = load_settings(other.home.settings_file)
        assert (theirs.base_model, theirs.store.logging, theirs.gateway.host) == (str(tiny), "off", "127.0.0.1")
        assert theirs.prices.answer_per_million == 2
        assert list(other.home.assistants.iterdir()) == [], "without it, brogue up would make its example"
        services = load_services(other.home)
        assert services is not None and services.supervisor.is_alive()
    assert not services.supervisor.is_alive()
    assert "tiny: engine: loading" in said


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, BrogueError])
def test_however_it_ends_the_engine_is_brought_down(up: Any, home: Home, tiny: Path, end: type[BaseException]) -> None:
    assert up
    with pytest.raises(end), other_base(home, "0a1b2c3d", str(tiny), lambda _: None) as other:
        services = load_services(other.home)
        raise end
    assert services is not None and not services.supervisor.is_alive()


def test_an_engine_that_a_killed_run_left_is_taken_over_and_brogue_down_finds_it(
    up: Any, home: Home, tiny: Path, brogue: Run
) -> None:
    assert up
    killed = other_base(home, "0a1b2c3d", str(tiny), lambda _: None)
    before = load_services(killed.__enter__().home)  # kill -9 ends nothing
    with other_base(home, "0a1b2c3d", str(tiny), lambda _: None) as other:
        assert load_services(other.home) == before
        assert (other.home.root / "starts").read_text() == "x"
    assert running(home) == []
    killed.gen.close()
    again = other_base(home, "0a1b2c3d", str(tiny), lambda _: None)
    services = load_services(again.__enter__().home)
    done = brogue("down")
    assert (done.stdout, running(home)) == ("stopped\n", [])
    assert services is not None and not services.supervisor.is_alive()
    again.gen.close()


def test_a_port_that_was_taken_meanwhile_is_another_one_and_all_else_is_one_line(
    up: Any, home: Home, tiny: Path
) -> None:
    up("brogue: gateway cannot listen at 127.0.0.1:1 (Address already in use); stop the program")
    with other_base(home, "0a1b2c3d", str(tiny), lambda _: None) as other:
        assert (other.home.root / "starts").read_text() == "xx"
    up("", "", "brogue: too little memory for the engine: it needs about 9.0 GiB")
    with (
        pytest.raises(BrogueError, match="^tiny cannot be tried: too little memory for the engine: it needs about 9"),
        other_base(home, "0a1b2c3d", str(tiny), lambda _: None),
    ):
        pass
    assert running(home) == []


def test_each_other_base_is_tried_in_some_ways_under_names_of_its_own() -> None:
    ways = [
        Arm(name="prompt", family="prompt", title="a prompt"),
        Arm(name="sft-lora", family="fine-tuned", title="fine-tuned", needs=("prompt",), learns=True),
        Arm(name="embedding-lr", family="specialist", title="a specialist"),
    ]
    found = other_arms(ways, ["Qwen/Qwen3-0.6B", "/models/Qwen3-0.6B/", "starter"])
    assert [(one.base, one.arm.name, one.inner.name) for one in found][:4] == [
        ("Qwen/Qwen3-0.6B", "qwen3-0.6b-prompt", "prompt"), ("Qwen/Qwen3-0.6B", "qwen3-0.6b-sft-lora", "sft-lora"),
        ("/models/Qwen3-0.6B/", "qwen3-0.6b--2-prompt", "prompt"),
        ("/models/Qwen3-0.6B/", "qwen3-0.6b--2-sft-lora", "sft-lora"),
    ]  # fmt: skip
    assert len({one.arm.name for one in found}) == len(found) == 6
    assert found[1].arm.needs == ("qwen3-0.6b-prompt",) and found[1].arm.learns
    assert {one.arm.family for one in found} == {"other base"}
    assert all(re.match(NAME_PATTERN, one.arm.name) for one in found)
    assert other_arms(ways, []) == []
    made = Assistant(name="advice-0a1b2c3d-sft-lora")
    ready = Ready(arm=found[1].arm.name, rows=3, definition=made, base_model=found[1].base)
    assert 'base_model = "Qwen/Qwen3-0.6B" into brogue.toml' in how_to_use(ready, "shop")


def test_settings_are_written_as_they_are_read(home: Home) -> None:
    settings = Settings.model_validate({
        "base_model": 'C:\\models\\"é" 🙂', "engine": {"extra_args": ["--a", "b c"], "kv_cache_gib": 0.5},
        "loop": {"split": [50, 20, 30]}, "advisor": {"other_bases": ["a/b"]}, "knowledge": {"fold": False},
    })  # fmt: skip
    write_text(home.settings_file, as_toml(settings))
    assert load_settings(home.settings_file) == settings


def figures(*measures: Measured) -> Figures:
    one = Interval(value=1, low=1, high=1)
    return Figures(n=10, main=one, parts=(), measures=measures, prompt_tokens=500, answer_tokens=20, seconds_p50=0.9,
                   seconds_p95=2)  # fmt: skip


def test_a_thousand_answers_cost_their_tokens_and_their_share_of_the_machine() -> None:
    assert advice_cost.price(PriceSettings(), figures()) is None
    by_token = PriceSettings(prompt_per_million=1, answer_per_million=10)
    assert advice_cost.price(by_token, figures()) == pytest.approx(0.5 + 0.2)
    by_hour = PriceSettings(machine_per_hour=2, answers_at_once=4)
    assert advice_cost.price(by_hour, figures()) == pytest.approx(1000 * 0.9 / 3600 * 2 / 4)
    found = Measured(name="cost.price_per_1000", unit="EUR", better="lower", n=10,
                     arms={"version": Interval(value=0.81, low=0.8, high=0.9)})  # fmt: skip
    assert advice_cost.price(by_token, figures(found)) == 0.81, "what the exam measured goes before"


def test_memory_is_that_of_weights_an_engine_and_the_model_that_embeds(home: Home) -> None:
    base = BaseModel(
        name="base", path="base", sha256="sha", architectures=(), supports_system=True, has_eyes=False,
        context_length=512, kv_bytes_per_token=1000, weight_bytes=10**9, modules={}, embeddings=(), files={},
    )  # fmt: skip

    def of(other: str | None = None, **keys: Any) -> int | None:
        definition = Assistant.model_validate({"name": "an-arm", **keys})
        ready = Ready(arm="an-arm", rows=1, definition=definition, bytes=7, base_model=other)
        return advice_cost.memory(home, ready, base)

    add_version(home, "shared")
    add_version(home, "own", served="merged")
    engine = of(other="a/b")
    assert of() == 7
    assert of(adapter="shared@1") == 7
    assert engine is not None and engine > base.weight_bytes
    assert of(adapter="own@1") == engine, "weights of its own take an engine of their own"
    assert of(adapter="gone@1") is None
    embeds = of(examples_from=ExamplesFrom(dataset="shop"))
    assert embeds is not None and embeds > 10**6
    assert of(knowledge={"use": "shop"}) == embeds
