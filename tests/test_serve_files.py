"""/v1/files: uploads as OpenAI's clients send them, kept whole, listed by the page, hidden from others."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openai import OpenAI
from openai.types import FileObject

from data.home import Home
from data.settings_jobs import FileSettings
from data.store_home import open_store
from data.store_users import Users
from tests.fakes import FakeGateway
from tests.scripted_gateway import served

LINES = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'


@pytest.fixture
def address(home: Home) -> Iterator[str]:
    with served(FakeGateway(home).app) as address:
        yield address


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0)


def upload(address: str, content: bytes = LINES, purpose: Any = "fine-tune", name: str = "a.jsonl", **more: Any) -> Any:
    return httpx.post(f"{address}/v1/files", files={"file": (name, content)}, data={"purpose": purpose} | more)


def refused(reply: httpx.Response) -> tuple[int, Any, str]:
    error = reply.json()["error"]
    return reply.status_code, error["param"], error["message"]


def test_a_file_goes_up_is_seen_and_read_and_goes(client: OpenAI, home: Home) -> None:
    made = client.files.create(file=("chats.jsonl", LINES), purpose="fine-tune")
    assert FileObject.model_validate(made.to_dict()) == made
    assert (made.filename, made.bytes, made.purpose, made.status) == (
        "chats.jsonl",
        len(LINES),
        "fine-tune",
        "processed",
    )
    assert client.files.retrieve(made.id) == made == client.files.wait_for_processing(made.id)
    assert client.files.content(made.id).read() == LINES
    assert [path.name for path in home.files.iterdir()] == [made.id], "nothing half written is left"
    gone = client.files.delete(made.id)
    assert (gone.id, gone.deleted) == (made.id, True)
    assert list(home.files.iterdir()) == [] and client.files.list().data == []


def test_files_are_listed_by_the_page_in_either_order(client: OpenAI) -> None:
    ids = [client.files.create(file=(f"{n}.jsonl", LINES), purpose="fine-tune").id for n in range(5)]
    assert [file.id for file in client.files.list()] == ids[::-1]
    assert [file.id for file in client.files.list(limit=2, order="asc")] == ids, "the client asks page after page"
    page = client.files.list(limit=2, after=ids[3])
    assert [file.id for file in page.data] == [ids[2], ids[1]] and page.has_more
    assert client.files.list(purpose="fine-tune-results").data == []
    assert client.files.list(after="file-nobody").data == []


@pytest.mark.parametrize(
    "sent, status, param, said",
    [
        ({"purpose": "assistants"}, 400, "purpose", "wanted purpose 'fine-tune', the only one"),
        ({"purpose": None}, 400, "purpose", "found ''"),
        ({"content": b""}, 400, "file", "the file is empty"),
        ({"expires_after[anchor]": "created_at"}, 400, "expires_after[anchor]", "Files stay until they are deleted"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_refused_in_one_line(
    address: str, home: Home, sent: dict[str, Any], status: int, param: str, said: str
) -> None:
    found = refused(upload(address, **sent))
    assert found[:2] == (status, param) and said in found[2] and "\n" not in found[2]
    assert list(home.files.glob("*")) == []


def test_what_is_no_form_is_refused(address: str) -> None:
    assert refused(httpx.post(f"{address}/v1/files", json={"file": "x"}))[0] == 400
    reply = httpx.post(f"{address}/v1/files", data={"purpose": "fine-tune", "file": "text"}, files={"other": b"x"})
    assert refused(reply)[:2] == (400, "file")
    broken = {"content-type": "multipart/form-data"}  # no boundary
    assert refused(httpx.post(f"{address}/v1/files", content=b"x", headers=broken))[0] == 400
    torn = {"content-type": "multipart/form-data; boundary=b"}
    reply = httpx.post(f"{address}/v1/files", content=b"--c\r\nnothing", headers=torn)
    assert refused(reply)[0] == 400


def test_too_large_a_file_is_refused_before_all_of_it_is_here(home: Home) -> None:
    from data.settings_jobs import JobSettings
    from serve.tuning import Tuning

    gateway = FakeGateway(home, tuning=Tuning(FileSettings(max_mib=1), JobSettings(), None))  # type: ignore[arg-type]
    with served(gateway.app) as address:
        said = refused(upload(address, b"x" * 1_200_000))
        assert said[:2] == (413, "file") and "larger than 1 MiB" in said[2]

        def slowly() -> Iterator[bytes]:  # chunked: nobody says how long it will be
            head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
            yield head
            for _ in range(20):
                yield b"x" * 100_000

        kind = {"content-type": "multipart/form-data; boundary=b"}
        assert refused(httpx.post(f"{address}/v1/files", content=slowly(), headers=kind))[0] == 413
    assert list(home.files.glob("*")) == []


def test_a_name_never_becomes_a_path(address: str, home: Home) -> None:
    for name in ("../../etc/passwd", "/etc/shadow", "a/../../b.jsonl", "C:\\x\\y.jsonl", "\u202ex\x00.jsonl"):
        made = upload(address, name=name).json()
        assert "/" not in made["filename"] and "\\" not in made["filename"]
        assert (home.files / made["id"]).read_bytes() == LINES
    for id in ("../store.db", "..%2fstore.db", "file-", "file-%00", "file-" + "a" * 24, "file-" + "A" * 24):
        none = 400 if "%00" in id else 404  # no URL has a control character
        for path in (f"/v1/files/{id}", f"/v1/files/{id}/content"):
            assert httpx.get(f"{address}{path}").status_code == none
        assert httpx.delete(f"{address}/v1/files/{id}").status_code in (none, 405)
    assert (home.root / "store.db").exists()


def test_others_do_not_see_a_file(address: str, home: Home) -> None:
    store = open_store(home)
    users = Users(store, rounds=4)
    clients = {}
    for name, role in (("ann", "user"), ("bob", "user"), ("eve", "admin")):
        users.create(name, role, f"{name}s password")
        token = users.sign_in(name, f"{name}s password")[1]
        clients[name] = httpx.Client(base_url=f"{address}/v1", headers={"Authorization": f"Bearer {token}"})
    store.close()
    made = clients["ann"].post("/files", files={"file": ("a.jsonl", LINES)}, data={"purpose": "fine-tune"}).json()
    seen = {name: one.get(f"/files/{made['id']}").status_code for name, one in clients.items()}
    assert seen == {"ann": 200, "bob": 404, "eve": 200}
    listed = {name: len(one.get("/files").json()["data"]) for name, one in clients.items()}
    assert listed == {"ann": 1, "bob": 0, "eve": 1}
    assert clients["bob"].get(f"/files/{made['id']}/content").status_code == 404
    assert clients["bob"].delete(f"/files/{made['id']}").status_code == 404
    assert httpx.get(f"{address}/v1/files").status_code == 401
    job = {"model": "base", "training_file": made["id"]}
    reply = clients["bob"].post("/fine_tuning/jobs", json=job)
    assert refused(reply)[:2] == (404, "training_file")
