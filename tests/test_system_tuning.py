"""The fine-tuning quickstart of OpenAI's client against a real gateway, engine and training; the worker dies meanwhile.

It comes last of the engine's tests: its models stay in the session's home.
"""

import json
import os
import signal
import time
from typing import Any

import pytest
from openai import OpenAI
from openai.types.fine_tuning import FineTuningJob

from assistant.services import load_services
from data.home import Home

pytestmark = [pytest.mark.slow, pytest.mark.engine]

SAID = "Ahoy! That is in aisle three, by the door."


def upload(client: OpenAI, rows: list[dict[str, Any]]) -> str:
    content = "\n".join(map(json.dumps, rows)).encode()
    return client.files.create(file=("mine.jsonl", content), purpose="fine-tune").id


def messages(client: OpenAI, job: FineTuningJob) -> list[str]:
    return [event.message for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data)]


def until(client: OpenAI, job: FineTuningJob, *statuses: str) -> FineTuningJob:
    deadline = time.monotonic() + 1800
    while (job := client.fine_tuning.jobs.retrieve(job.id)).status not in (*statuses, "failed", "cancelled"):
        assert time.monotonic() < deadline, messages(client, job)
        time.sleep(0.5)
    assert job.status in statuses, (job.error, messages(client, job))
    return job


def test_the_quickstart_runs_supervised_and_dpo_though_the_worker_is_killed(up_home: Home, gateway_url: str) -> None:
    client = OpenAI(base_url=f"{gateway_url}/v1", api_key="any")
    base = next(entry.id for entry in client.models.list() if getattr(entry, "kind", "") == "base model")
    asked = [[{"role": "user", "content": f"Where is item {n}?"}] for n in range(12)]
    chats = upload(client, [{"messages": [*one, {"role": "assistant", "content": SAID}]} for one in asked])
    method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 4, "batch_size": 4}}}
    job = client.fine_tuning.jobs.create(model=base, training_file=chats, suffix="ahoy", method=method, seed=1)
    until(client, job, "running")
    services = load_services(up_home)
    assert services is not None and services.worker is not None
    os.kill(services.worker.pid, signal.SIGKILL)
    done = until(client, job, "succeeded")
    assert "The worker of the job was stopped; the job goes on from its last checkpoint" in messages(client, job)
    model = str(done.fine_tuned_model)
    question: Any = [{"role": "user", "content": "Where is item 3?"}]
    reply = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=20)
    assert str(reply.choices[0].message.content).startswith("Ahoy!"), reply.choices[0].message.content
    assert client.models.retrieve(model).id == model
    assert client.files.content(done.result_files[0]).text.startswith("step,train_loss,")

    pairs = upload(client, [
        {"input": {"messages": one}, "preferred_output": [{"role": "assistant", "content": SAID}],
         "non_preferred_output": [{"role": "assistant", "content": "No idea."}]} for one in asked[:6]
    ])  # fmt: skip
    dpo: Any = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 1, "batch_size": 4, "beta": 0.1}}}
    better = client.fine_tuning.jobs.create(model=model, training_file=pairs, method=dpo, seed=1)
    done = until(client, better, "succeeded")
    reply = client.chat.completions.create(model=str(done.fine_tuned_model), messages=question, max_tokens=20)
    assert reply.choices[0].message.content
