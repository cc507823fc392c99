"""promote, canary, rollback and retire by command: at the registry while nothing runs, else through the gateway."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from adapters.base_model import _stat_files
from adapters.registry import Registry
from assistant import cli_versions
from assistant.cli_app import app
from data.errors import BrogueError
from data.home import Home, write_json, write_text
from tests.test_adapters_validation import BASE, register, write_adapter


@pytest.fixture
def base(home: Home, tmp_path: Path) -> Path:
    """A base model that was looked at before, so that nothing heavy is imported, and three versions of `a` for it."""
    folder = tmp_path / "tiny"
    write_text(folder / "config.json", '{"architectures": ["LlamaForCausalLM"]}')
    write_text(folder / "model.safetensors", "")
    write_text(home.settings_file, f'base_model = "{folder}"\n[engine]\nmax_lora_rank = 8')
    card = BASE.model_copy(update={"path": str(folder), "files": _stat_files(folder)})
    write_json(home.models / "tiny.json", card.model_dump(mode="json"))
    for _ in range(3):
        register(home)
    return folder


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["adapters", *words])


def refusal(*words: str) -> str:
    error = run(*words).exception
    assert isinstance(error, BrogueError), error
    return str(error)


@pytest.mark.usefixtures("base")
def test_versions_are_promoted_tried_rolled_back_and_retired_while_nothing_runs(home: Home) -> None:
    done = run("promote", "a@2", "--why", "warmer")
    assert done.stdout == "a@2 is stable now, instead of a@1\n"
    assert done.stderr.endswith("brogue is not running; it will take effect at the next brogue up\n")
    assert run("canary", "a@3", "--share", "25").stdout == "a@3 is canary\n"
    assert "canary 25%" in run("list").stdout
    assert run("canary", "a", "--stop").stdout == "a has no canary any more (it was a@3)\n"
    assert run("canary", "a@3", "--shadow").stdout == "a@3 is canary\n"
    assert json.loads(run("show", "a@3", "--json").stdout)["canary"] == {"share": 0, "shadow": True}
    assert run("promote", "a@canary").stdout == "a@3 is stable now, instead of a@2\n"
    assert json.loads(run("rollback", "a", "--json").stdout) == {
        "adapter": "a", "alias": "stable", "before": 3, "after": 2, "seconds": None,
    }  # fmt: skip
    assert run("promote", "a@1", "--candidate").stdout == "a@1 is candidate\n"
    assert run("retire", "a@3").stdout == "a@3 is retired; its files are deleted at the next brogue up\n"
    assert Registry(home).versions("a") == [1, 2]
    shown = run("show", "a").stdout
    assert "stable 1 → 2" in shown
    assert "warmer" in shown


@pytest.mark.usefixtures("base")
def test_commands_that_make_no_sense_are_one_line() -> None:
    assert refusal("promote", "a") == "promote wants a version, such as a@1; have: a@1, a@2, a@3"
    assert refusal("promote", "b@1") == "no adapter 'b'; have: a. Train one: brogue train b --data NAME"
    assert refusal("rollback", "a") == ("a has no earlier stable version; promote another: brogue adapters promote a@N")
    assert refusal("canary", "a", "--stop") == ("a has no canary; start one: brogue adapters canary a@N --share 10")
    assert refusal("retire", "a@1") == "a@1 is stable, so it cannot be retired; promote another version first"


@pytest.mark.usefixtures("base")
def test_a_version_that_the_engine_could_not_serve_gets_no_alias(home: Home) -> None:
    (Registry(home).folder("a", 2) / "adapter_model.safetensors").write_bytes(b"x")
    assert refusal("promote", "a@2").startswith("a@2 cannot be served: adapter_model.safetensors has changed")
    assert Registry(home).aliases("a") == {"stable": 1}


@pytest.mark.usefixtures("base")
def test_an_adapter_of_another_base_model_is_imported_only_when_the_user_vouches_for_it(
    home: Home, tmp_path: Path
) -> None:
    folder = write_adapter(tmp_path / "made", base_model_name_or_path="other/thing")
    assert refusal("import", str(folder), "--as", "b").endswith("if both are the same weights, add --same-base")
    done = run("import", str(folder), "--as", "b", "--same-base")
    assert done.stdout == f"b@1: LoRA of rank 2 for base model {BASE.name}, every tensor checked\n"
    assert "next: brogue adapters promote b@2" in run("import", str(folder), "--as", "b", "--same-base").stdout
    assert Registry(home).aliases("b") == {"stable": 1}


class FakeAdmin:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def set_alias(self, *given: Any, **options: Any) -> dict[str, Any]:
        self.calls.append(("set_alias", *given, options))
        return {"adapter": {}, "before": 1, "after": given[2], "seconds": {"flip": 0.001}}

    def remove_alias(self, *given: Any) -> dict[str, Any]:
        self.calls.append(("remove_alias", *given))
        return {}

    def rollback(self, *given: Any) -> dict[str, Any]:
        self.calls.append(("rollback", *given))
        return {"before": 2, "after": 1, "seconds": {}}

    def retire(self, *given: Any) -> dict[str, Any]:
        self.calls.append(("retire", *given))
        return {}

    def adapters(self) -> list[dict[str, Any]]:
        return [{"versions": [{"id": "a@2", "status": "refused", "detail": "why"}]}]


@pytest.mark.usefixtures("base")
def test_while_brogue_runs_the_gateway_does_it_and_the_registry_is_left_to_it(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = FakeAdmin()
    monkeypatch.setattr(cli_versions, "running_admin", lambda _: admin)
    monkeypatch.setattr(cli_versions, "_user", lambda: "ada")
    assert json.loads(run("promote", "a@2", "--json").stdout) == {
        "adapter": "a", "alias": "stable", "before": 1, "after": 2, "seconds": {"flip": 0.001},
    }  # fmt: skip
    run("canary", "a@3", "--share", "5", "--shadow", "--why", "new data")
    run("retire", "a@3")
    assert admin.calls == [
        ("set_alias", "a", "stable", 2, "ada", "", {}),
        ("set_alias", "a", "canary", 3, "ada", "new data", {"share": 5, "shadow": True}),
        ("retire", "a", 3),
    ]
    assert Registry(home).aliases("a") == {"stable": 1}
    Registry(home).move("a", "stable", 2)
    Registry(home).move("a", "canary", 3)
    run("canary", "a", "--stop")
    assert run("rollback", "a").stdout == "a@1 is stable now, instead of a@2\n"
    assert admin.calls[3:] == [("remove_alias", "a", "canary", "ada", ""), ("rollback", "a", "ada", "")]
    listed = {v["version"]: v["status"] for v in json.loads(run("list", "--json").stdout)}
    assert listed == {1: None, 2: "refused", 3: None}


@pytest.fixture
def merged(base: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """All versions have weights of their own, and one of them may have an engine."""
    monkeypatch.setattr("adapters.validation.check_version", lambda *_: None)
    settings = home.settings_file.read_text()
    write_text(home.settings_file, f"{settings}\nmax_own_engines = 1\ndevice = 'cpu'")
    register(home, "b")
    for path in home.adapters.glob("*/[1-9]/card.json"):
        write_json(path, json.loads(path.read_text()) | {"served": "merged"})
    assert base


@pytest.mark.usefixtures("merged")
def test_a_version_that_takes_an_engine_of_its_own_says_so_with_its_memory_and_needs_a_place(home: Home) -> None:
    card = json.loads(run("show", "a@2", "--json").stdout)
    assert card["own_engine"]["memory_bytes"] > 3 * 1024**3
    assert "served: merged, takes an engine of its own, about 3.0 GiB of memory\n" in run("show", "a@2").stdout
    assert refusal("promote", "a@2").startswith(
        "a@2 takes an engine of its own, and engine.max_own_engines = 1 has b@1; raise it in brogue.toml"
    )
    write_text(home.settings_file, home.settings_file.read_text().replace("engines = 1", "engines = 2"))
    assert "a@2 takes an engine of its own, about 3.0 GiB of memory\n" in run("promote", "a@2").stderr


@pytest.mark.usefixtures("merged")
def test_while_an_engine_of_its_own_comes_up_promote_tells_what_it_is_doing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(FakeAdmin):
        told = threading.Event()

        def adapter(self, _name: str) -> dict[str, Any]:
            detail = "its own engine: warming up" if self.calls else ""
            self.told.set() if self.calls else None
            return {"versions": [{"version": 2, "detail": detail, "own_engine": {"memory_bytes": 2 * 1024**3}}]}

        def set_alias(self, *given: Any, **options: Any) -> dict[str, Any]:
            done = super().set_alias(*given, **options)
            assert self.told.wait(20)
            return done

    monkeypatch.setattr(cli_versions, "running_admin", lambda _: Slow())
    monkeypatch.setattr(cli_versions, "FOLLOW_S", 0.01)
    done = run("promote", "a@2")
    assert done.stdout == "a@2 is stable now, instead of a@1\n"
    assert "a@2 takes an engine of its own, about 2.0 GiB of memory; starting one lasts a minute or two" in done.stderr
    assert "a@2: its own engine: warming up" in done.stderr
