"""`brogue status` while something runs: what it says of the adapters."""

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from assistant.services import Child, Services
from data.home import Home
from tests.conftest import Run, free_port
from tests.scripted_gateway import ADMIN_KEY, ScriptedGateway, served


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> ScriptedGateway:
    monkeypatch.setenv("BROGUE_ADMIN_KEY", ADMIN_KEY)
    gateway = ScriptedGateway()
    gateway.reset()
    return gateway


@pytest.fixture
def running(home: Home, gateway: ScriptedGateway) -> Iterator[Services]:
    """A home in which everything seems to run, with this process as the supervisor."""
    home.create()
    with served(gateway.build_app()) as url:
        services = pretend(home, url)
        yield services


def pretend(home: Home, url: str) -> Services:
    me = Child.of(os.getpid())
    assert me is not None
    services = Services(supervisor=me, gateway_url=url, page_url="http://page", base_model="base", engine_state="ready")
    services.save(home)
    return services


def test_status_shows_how_the_stable_version_and_the_canary_do(brogue: Run, running: Services) -> None:
    done = brogue("status")
    assert done.returncode == 0, done.stderr
    table = [line.split() for line in done.stdout.splitlines() if "@" in line or line.startswith("VERSION")]
    assert table == [
        ["VERSION", "ALIAS", "SHARE", "ANSWERS", "ERRORS", "UP", "DOWN", "STATE"],
        ["reed-voice@2", "stable", "90%", "84", "1", "20", "1", "loaded"],
        ["reed-voice@3", "canary", "10%", "9", "0", "0", "0", "loaded"],
    ]
    assert running.gateway_url in done.stdout


def test_a_canary_in_the_background_leaves_stable_all_the_traffic(
    brogue: Run, running: Services, gateway: ScriptedGateway
) -> None:
    assert running
    gateway.adapters["reed-voice"]["canary"] = {"share": 10, "shadow": True}
    lines = [line for line in brogue("status").stdout.splitlines() if "@" in line]
    assert "stable  100%" in lines[0] and "canary  in the background" in lines[1]


def test_status_as_json_carries_the_gateways_adapters(brogue: Run, running: Services) -> None:
    found = json.loads(brogue("status", "--json").stdout)
    assert (found["engine_state"], found["adapters_problem"]) == ("ready", None)
    assert found["gateway_url"] == running.gateway_url
    assert found["adapters"][0]["canary"] == {"share": 10, "shadow": False}


def test_a_gateway_that_does_not_answer_yet_is_one_line(brogue: Run, home: Home) -> None:
    home.create()
    pretend(home, f"http://127.0.0.1:{free_port()}")
    done = brogue("status")
    assert "adapters not known: cannot reach the gateway" in done.stdout
    assert json.loads(brogue("status", "--json").stdout)["adapters"] == []


def test_status_tells_which_versions_have_an_engine_of_their_own_and_its_memory(
    brogue: Run, running: Services, gateway: ScriptedGateway
) -> None:
    assert running
    own = {"own_engine": {"memory_bytes": 3 * 1024**3}}
    gateway.adapters["reed-voice"]["versions"][1] |= own
    gateway.adapters["reed-voice"]["versions"][2] |= own | {
        "status": "starting",
        "detail": "its own engine: warming up",
    }
    said = brogue("status").stdout
    assert "reed-voice@2 has an engine of its own: loaded, about 3.0 GiB of memory" in said
    assert "reed-voice@3 has an engine of its own: starting (its own engine: warming up), about 3.0 GiB" in said


def test_brogue_down_ends_versions_own_engines_that_a_killed_supervisor_has_left(brogue: Run, home: Home) -> None:
    home.create()
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as engine:
        left = Child.of(engine.pid)
        gone = Child(pid=engine.pid, created=1)
        assert left is not None
        Services(
            supervisor=gone, own_engines=(left,), gateway_url="http://g", page_url="http://p", base_model="base"
        ).save(home)
        assert brogue("down").stdout == "stopped\n"
        assert not left.is_alive()
    assert not home.services_file.exists()


def test_a_start_that_is_stopped_in_its_first_seconds_leaves_nothing_behind(
    brogue: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from assistant import cli_services

    supervisor = subprocess.Popen(["sleep", "300"], start_new_session=True)  # it has not written down yet that it runs

    def stopped(*_: object) -> Services:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_services, "_make_ready", lambda *_: None)
    monkeypatch.setattr(cli_services, "_start_supervisor", lambda *_: supervisor)
    monkeypatch.setattr(cli_services, "_wait_ready", stopped)
    done = brogue("up", "--port", str(free_port()), "--page-port", str(free_port()))
    assert done.returncode == 130, done.stderr
    assert supervisor.poll() is not None
