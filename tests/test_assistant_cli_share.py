"""`brogue share`, and what else goes from one home to the others: documents, uploads; parts that are run alone."""

import io
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.registry import Registry
from data.home import Home, write_text
from data.settings import load_settings
from data.store_files import Files
from data.store_home import open_store
from tests.conftest import Run, free_port
from tests.fakes import add_version

pytest_plugins = ["tests.databases"]
pytestmark = pytest.mark.slow

SETTINGS = '[store]\nurl = "{url}"\n[shared]\nartefacts = "{artefacts}"\n'


@pytest.fixture
def places(new_postgresql: str, tmp_path: Path) -> Callable[[str], Home]:
    """Homes by name that share a database and a folder of artefacts."""

    def make(name: str) -> Home:
        home = Home(tmp_path / name)
        if not home.settings_file.exists():
            write_text(home.settings_file, SETTINGS.format(url=new_postgresql, artefacts=tmp_path / "artefacts"))
        return home

    return make


def test_a_home_that_begins_to_share_gives_the_others_what_it_has(
    places: Callable[[str], Home], brogue: Run, tmp_path: Path
) -> None:
    old = Home(tmp_path / "old")
    for _ in range(2):
        add_version(old, "shop")
    Registry(old).move("shop", "stable", 2)
    write_text(old.assistants / "shop.yaml", "name: shop\nadapter: shop\n")
    old, new = places("old"), places("new")
    pushed = brogue("share", "push", home=old)
    assert pushed.returncode == 0, pushed.stderr
    assert "assistants/shop.yaml" in pushed.stdout.splitlines()
    assert pushed.stdout.splitlines()[-1] == "adapters/shop/aliases.json"
    assert "already" in brogue("share", "push", home=old).stdout
    pulled = brogue("share", "pull", home=new)
    assert sorted(pulled.stdout.splitlines()) == sorted(pushed.stdout.splitlines())
    assert Registry(new).aliases("shop") == {"stable": 2}
    listed = brogue("share", "list", home=new).stdout
    assert "adapters/shop/2/card.json" in listed and "assistants/shop.yaml" in listed


def test_a_definition_that_was_edited_goes_to_the_others_and_one_that_is_gone_only_when_told_so(
    places: Callable[[str], Home], brogue: Run
) -> None:
    one, other = places("one"), places("other")
    write_text(one.assistants / "reed.yaml", "name: reed\n")
    write_text(one.assistants / "fern.yaml", "name: fern\n")
    brogue("share", "push", home=one)
    brogue("share", "pull", home=other)
    write_text(other.assistants / "reed.yaml", "name: reed\nsystem_prompt: Be brief.\n")
    (other.assistants / "fern.yaml").unlink()
    assert brogue("share", "push", home=other).stdout.split() == ["assistants/reed.yaml"]
    assert brogue("share", "pull", home=one).stdout.split() == ["assistants/reed.yaml"]
    assert brogue("share", "push", "--delete", home=other).stdout.split() == ["assistants/fern.yaml"]
    assert brogue("share", "pull", home=one).stdout.split() == ["assistants/fern.yaml"]
    assert [path.name for path in one.assistants.iterdir()] == ["reed.yaml"]


def test_a_broken_definition_does_not_reach_the_others(places: Callable[[str], Home], brogue: Run) -> None:
    home = places("one")
    write_text(home.assistants / "reed.yaml", "name: reed\ntemprature: 3\n")
    refused = brogue("share", "push", home=home)
    assert refused.returncode == 1 and "temprature" in refused.stderr
    assert "nothing is shared yet" in brogue("share", "list", home=home).stderr


def test_where_nothing_is_shared_one_line_says_how(brogue: Run, home: Home) -> None:
    refused = brogue("share", "push")
    assert refused.returncode == 1
    assert "set artefacts in [shared]" in refused.stderr and len(refused.stderr.splitlines()) == 1
    write_text(home.settings_file, '[shared]\nartefacts = "/somewhere"\n')
    refused = brogue("share", "list")
    assert refused.returncode == 1 and "shared.artefacts wants a PostgreSQL store" in refused.stderr


def test_an_upload_is_read_by_the_other_gateway_and_goes_from_the_artefacts_with_its_last_name(
    places: Callable[[str], Home], tmp_path: Path
) -> None:
    one, other = places("one"), places("other")
    stores = [open_store(home, load_settings(home.settings_file).store) for home in (one, other)]
    here, there = Files(stores[0], one), Files(stores[1], other)
    first = here.add(None, "a.jsonl", "fine-tune", io.BytesIO(b"{}\n"))
    second = here.add(None, "b.jsonl", "fine-tune", io.BytesIO(b"{}\n"))
    assert there.path(first.id).read_bytes() == b"{}\n"
    blobs = tmp_path / "artefacts" / "sha256"
    here.remove(first.id)
    assert [path.name for path in blobs.rglob("*") if path.is_file()] == [second.sha256]
    there.remove(second.id)
    assert not [path for path in blobs.rglob("*") if path.is_file()]
    for store in stores:
        store.close()


@pytest.fixture
def chroma(tmp_path: Path) -> Iterator[str]:
    """A Chroma server's address."""
    import httpx

    port = free_port()
    words = [str(Path(sys.executable).with_name("chroma")), "run", "--path", str(tmp_path / "c"), "--port", str(port)]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(240):
            try:
                if httpx.get(f"{url}/api/v2/heartbeat").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.25)
        yield url
    finally:
        server.terminate()
        server.wait()


def test_documents_of_one_home_are_found_in_the_other_and_nothing_stays_of_what_was_removed(
    places: Callable[[str], Home], brogue: Run, chroma: str, tmp_path: Path
) -> None:
    one, other = places("one"), places("other")
    for home in (one, other):
        write_text(home.settings_file, home.settings_file.read_text() + f'[knowledge]\nchroma_url = "{chroma}"\n')
    write_text(one.assistants / "reed.yaml", "name: reed\n")
    write_text(tmp_path / "docs" / "hours.md", "# Hours\n\nThe shop opens at nine and closes at five.\n")
    write_text(tmp_path / "docs" / "post.md", "# Post\n\nParcels leave the greenhouse on Tuesdays.\n")
    brogue("share", "push", home=one)
    added = brogue("knowledge", "add", "reed", str(tmp_path / "docs"), home=one)
    assert added.returncode == 0, added.stderr
    assert brogue("share", "pull", home=other).returncode == 0
    found = brogue("knowledge", "search", "reed", "When do parcels leave?", home=other)
    assert found.returncode == 0, found.stderr
    assert "Tuesdays" in found.stdout
    # The other home may change them as well, and what it takes out is gone everywhere.
    assert brogue("knowledge", "remove", "reed", "docs/post.md", home=other).returncode == 0
    assert brogue("share", "pull", home=one).returncode == 0
    found = brogue("knowledge", "search", "reed", "When do parcels leave?", home=one)
    assert "Tuesdays" not in found.stdout and "nine" in found.stdout
    assert brogue("knowledge", "remove", "reed", "--all", home=one).returncode == 0
    assert brogue("share", "pull", home=other).returncode == 0
    for folder in (one.root, other.root, tmp_path / "artefacts"):
        held = [path for path in folder.rglob("*") if path.is_file() and b"opens at nine" in path.read_bytes()]
        assert held == []


def test_an_engine_for_gateways_elsewhere_wants_their_key(brogue: Run) -> None:
    refused = brogue("engine")
    assert refused.returncode == 1
    assert "set BROGUE_ENGINE_KEY" in refused.stderr and len(refused.stderr.splitlines()) == 1


def test_a_page_alone_is_guarded_as_ever(brogue: Run) -> None:
    refused = brogue("page", "--gateway", "http://127.0.0.1:1", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "would let in whoever comes" in refused.stderr
