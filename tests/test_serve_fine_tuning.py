"""/v1/fine_tuning/jobs as OpenAI's client meets it: created, listed, steered, refused; other people's are not there."""

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob, FineTuningJobEvent
from openai.types.fine_tuning.jobs import FineTuningJobCheckpoint

from data.home import Home
from data.jobs import JobEvent
from data.store_home import open_store
from data.store_jobs_work import Work
from data.store_users import Users
from tests.fakes import FakeGateway, add_assistant, add_version
from tests.scripted_gateway import served

LINES = b'{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n' * 3


@pytest.fixture
def address(home: Home) -> Iterator[str]:
    add_version(home, "reed-voice")
    add_assistant(home, "reed", "adapter: reed-voice\nsystem_prompt: Trained so.\n")
    add_assistant(home, "other", "adapter: reed-voice\nsystem_prompt: Be other.\n")
    add_assistant(home, "plain", "system_prompt: Be plain.\n")
    with served(FakeGateway(home).app) as address:
        yield address


@pytest.fixture
def client(address: str) -> OpenAI:
    return OpenAI(base_url=f"{address}/v1", api_key="any", max_retries=0)


@pytest.fixture
def file(client: OpenAI) -> str:
    return client.files.create(file=("chats.jsonl", LINES), purpose="fine-tune").id


def create(client: OpenAI, file: str, model: str = "base", **more: Any) -> FineTuningJob:
    return client.fine_tuning.jobs.create(model=model, training_file=file, **more)


def test_a_job_has_all_that_the_clients_type_wants(client: OpenAI, file: str) -> None:
    job = create(client, file, suffix="acme", seed=7, metadata={"for": "acme"})
    assert FineTuningJob.model_validate(job.to_dict(), strict=True) == job
    assert job.status == "validating_files" and job.fine_tuned_model is None and job.result_files == []
    assert (job.model, job.training_file, job.seed, job.metadata) == ("base", file, 7, {"for": "acme"})
    settings = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert job.hyperparameters.to_dict() == settings
    assert job.method is not None and job.method.supervised is not None and job.error is None
    assert client.fine_tuning.jobs.retrieve(job.id) == job
    events = client.fine_tuning.jobs.list_events(job.id).data
    assert [event.message for event in events] == [
        f"Validating training file: {file}", f"Created fine-tuning job: {job.id}"
    ]  # fmt: skip
    assert all(FineTuningJobEvent.model_validate(event.to_dict(), strict=True) == event for event in events)


def test_a_job_of_pairs_keeps_its_beta(client: OpenAI, file: str) -> None:
    method: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2, "batch_size": 4}}}
    job = create(client, file, method=method)
    assert job.method is not None and job.method.dpo is not None and job.method.dpo.hyperparameters is not None
    wanted = {"beta": 0.2, "n_epochs": 2, "batch_size": 4, "learning_rate_multiplier": "auto"}
    assert job.method.dpo.hyperparameters.to_dict() == wanted
    assert FineTuningJob.model_validate(job.to_dict()) == job


def test_the_older_hyperparameters_are_those_of_supervised_training(client: OpenAI, file: str) -> None:
    job = create(client, file, hyperparameters={"n_epochs": 3})
    assert job.hyperparameters.n_epochs == 3 and job.method is not None and job.method.type == "supervised"


MODELS = {
    "base": (None, None, "base"),
    "plain": (None, "Be plain.", "plain"),
    "reed": ("reed-voice@1", "Trained so.", "reed"),
    "reed-voice": ("reed-voice@1", "Trained so.", "reed-voice"),
    "reed-voice@stable": ("reed-voice@1", "Trained so.", "reed-voice"),
}


def test_a_model_is_the_base_an_assistant_or_a_version_to_go_on_from(client: OpenAI, file: str, home: Home) -> None:
    from data.store_jobs import Jobs

    for model, (start, prompt, stem) in MODELS.items():
        asked = Jobs(open_store(home)).get(create(client, file, model).id).asked
        assert (asked.start, asked.system_prompt) == (start, prompt)
        assert asked.name.startswith(f"ft-{stem}-") and len(asked.name) == len(stem) + 12


def supervised(**settings: Any) -> dict[str, Any]:
    return {"method": {"type": "supervised", "supervised": {"hyperparameters": settings}}}


REFUSED: list[tuple[dict[str, Any], int, str | None, str]] = [
    ({"model": "gpt-4o-mini"}, 404, "model", "no model 'gpt-4o-mini'; name the base model, 'base'"),
    ({"model": "other"}, 400, "model", "another system prompt"),
    ({"model": "reed-voice@9"}, 404, "model", "reed-voice@1"),
    ({"model": "../../etc"}, 404, "model", "no model"),
    ({"training_file": "file-nobody"}, 404, "training_file", "no file 'file-nobody'"),
    ({"validation_file": "file-nobody"}, 404, "validation_file", "no file"),
    ({"suffix": "Acme & Co"}, 400, "suffix", "lower-case letters"),
    ({"suffix": "x" * 49}, 400, "suffix", "at most 48"),
    ({"suffix": ""}, 400, "suffix", "lower-case"),
    ({"seed": -1}, 400, "seed", "greater than or equal to 0"),
    ({"method": {"type": "reinforcement"}}, 400, "method", "wanted supervised or dpo"),
    ({"method": {"type": "dpo", "supervised": {}}}, 400, "method", "leave one of them out"),
    (supervised(n_epochs=0), 400, "method.supervised.hyperparameters.n_epochs", "a whole number from 1 to 50"),
    (supervised(n_epochs=True), 400, "method.supervised.hyperparameters.n_epochs", "a whole number from 1 to 50"),
    (supervised(learning_rate_multiplier=0), 400, None, "a number above 0, at most 100"),
    (supervised(beta=1), 400, "method.supervised.hyperparameters.beta", "Extra inputs"),
    ({"method": {"type": "supervised"}, "hyperparameters": {"n_epochs": 1}}, 400, None, "not both"),
    ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, 400, "integrations", "none here"),
    ({"metadata": {"k" * 65: "v"}}, 400, None, "at most 64"),
    ({"unknown": 1}, 400, "unknown", "Extra inputs"),
]


def test_what_cannot_be_done_is_refused_in_one_line(address: str, file: str) -> None:
    for wanted, status, param, said in REFUSED:
        reply = httpx.post(f"{address}/v1/fine_tuning/jobs", json={"model": "base", "training_file": file} | wanted)
        error = reply.json()["error"]
        assert reply.status_code == status and said in error["message"] and "\n" not in error["message"], wanted
        assert param is None or error["param"] == param, wanted
        assert "/tmp" not in error["message"] and error["type"] == "invalid_request_error"
    assert httpx.get(f"{address}/v1/fine_tuning/jobs").json()["data"] == []


def test_results_cannot_be_trained_on(client: OpenAI, home: Home) -> None:
    import io

    from data.store_files import Files

    made = Files(open_store(home), home).add(None, "m.csv", "fine-tune-results", io.BytesIO(b"step\n"))
    with pytest.raises(openai.BadRequestError, match="has the purpose 'fine-tune-results'"):
        create(client, made.id)


def test_jobs_and_events_come_page_by_page_and_by_their_metadata(client: OpenAI, file: str, home: Home) -> None:
    ids = [create(client, file, metadata={"n": str(n % 2)} if n else {}).id for n in range(4)]
    assert [job.id for job in client.fine_tuning.jobs.list(limit=2)] == ids[::-1]
    assert [job.id for job in client.fine_tuning.jobs.list(metadata={"n": "1"})] == [ids[3], ids[1]]
    without = client.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    assert [job.id for job in without.data] == [ids[0]]
    work = Work(open_store(home), "w")
    claimed = work.claim(["validating_files"])
    assert claimed is not None and claimed[0].id == ids[0]
    work.note(ids[0], "validating_files", None, [JobEvent(message=f"n{n}") for n in range(5)])
    told = [event.message for event in client.fine_tuning.jobs.list_events(ids[0], limit=2)]
    assert told[:5] == ["n4", "n3", "n2", "n1", "n0"] and len(told) == 7
    assert client.fine_tuning.jobs.list_events(ids[0], after="ftevent-x-1").data == []
    assert client.fine_tuning.jobs.list(after="ftjob-nobody").data == []
    assert httpx.get(f"{client.base_url}fine_tuning/jobs?limit=0").status_code == 400


def test_a_job_is_paused_resumed_and_cancelled_at_once(client: OpenAI, file: str) -> None:
    job = create(client, file)
    jobs = client.fine_tuning.jobs
    assert jobs.pause(job.id).status == "paused"  # type: ignore[comparison-overlap]  # the client's type forgets it
    with pytest.raises(openai.BadRequestError, match="its status is paused"):
        jobs.pause(job.id)
    assert jobs.resume(job.id).status == "validating_files"
    over = jobs.cancel(job.id)
    assert over.status == "cancelled" and over.finished_at is not None
    with pytest.raises(openai.BadRequestError, match="its status is cancelled"):
        jobs.cancel(job.id)


def test_only_so_many_jobs_may_be_unfinished(client: OpenAI, file: str) -> None:
    made = [create(client, file) for _ in range(5)]
    with pytest.raises(openai.RateLimitError, match="5 jobs are unfinished"):
        create(client, file)
    client.fine_tuning.jobs.cancel(made[0].id)
    create(client, file)


def test_a_finished_job_names_its_model_its_checkpoint_and_its_figures(client: OpenAI, file: str, home: Home) -> None:
    job, work = create(client, file), Work(open_store(home), "w")
    claimed = work.claim(["validating_files"])
    assert claimed is not None
    name = claimed[0].asked.name
    found: dict[str, Any] = {"version": f"{name}@1", "metrics": {"step": 2, "train_loss": 1.5}, "step": 2,
                             "hyperparameters": {"n_epochs": 4}, "trained_tokens": 99}  # fmt: skip
    assert work.note(job.id, "validating_files", "succeeded", **found)
    done = client.fine_tuning.jobs.retrieve(job.id)
    assert FineTuningJob.model_validate(done.to_dict(), strict=True) == done
    assert (done.status, done.fine_tuned_model, done.trained_tokens) == ("succeeded", name, 99)
    assert done.hyperparameters.n_epochs == 4
    [point] = client.fine_tuning.jobs.checkpoints.list(job.id)
    assert FineTuningJobCheckpoint.model_validate(point.to_dict(), strict=True) == point
    assert point.fine_tuned_model_checkpoint == f"{name}@1" and point.metrics.train_loss == 1.5


def test_other_peoples_jobs_are_not_there(address: str, home: Home) -> None:
    store = open_store(home)
    users, clients = Users(store, rounds=4), {}
    for name, role in (("ann", "user"), ("bob", "user"), ("eve", "admin")):
        users.create(name, role, f"{name}s password")
        token = users.sign_in(name, f"{name}s password")[1]
        clients[name] = OpenAI(base_url=f"{address}/v1", api_key=token, max_retries=0)
    store.close()
    made = clients["ann"].files.create(file=("a.jsonl", LINES), purpose="fine-tune")
    job = create(clients["ann"], made.id)
    bobs, eves = clients["bob"].fine_tuning.jobs, clients["eve"].fine_tuning.jobs
    asks: list[Any] = [bobs.retrieve, bobs.cancel, bobs.pause, bobs.resume, bobs.list_events, bobs.checkpoints.list]
    for ask in asks:
        with pytest.raises(openai.NotFoundError, match="no fine-tuning job"):
            ask(job.id)
    assert bobs.list().data == [] and [one.id for one in eves.list()] == [job.id]
    assert eves.cancel(job.id).status == "cancelled"
    for path in ("files", "fine_tuning/jobs", f"fine_tuning/jobs/{job.id}"):
        assert httpx.get(f"{address}/v1/{path}").status_code == 401


def test_the_settings_say_who_may_start_jobs(home: Home) -> None:
    from assistant.job_models import HomeTunables
    from data.settings_jobs import FileSettings, JobSettings
    from serve.tuning import Tuning

    tuning = Tuning(FileSettings(), JobSettings(role="admin"), HomeTunables(home, "base", "sha"))
    with served(FakeGateway(home, tuning=tuning).app) as address:
        open_to_all = OpenAI(base_url=f"{address}/v1", api_key="any")
        assert open_to_all.files.create(file=("a.jsonl", LINES), purpose="fine-tune").id
        store = open_store(home)
        users = Users(store, rounds=4)
        users.create("ann", "rater", "anns password")
        token = users.sign_in("ann", "anns password")[1]
        store.close()
        client = OpenAI(base_url=f"{address}/v1", api_key=token)
        with pytest.raises(openai.PermissionDeniedError, match="need the role 'admin'"):
            client.files.create(file=("a.jsonl", LINES), purpose="fine-tune")
        assert client.files.list().data == []
