"""A lab over the whole gateway with a fake engine: a tiny base model, a small dataset, trainings that are told only."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from adapters.base_model import prepare
from adapters.exam_asking import Gateway
from adapters.registry import CARD, AdapterCard, Registry, file_hashes
from assistant.advice_lab import Lab
from assistant.advice_task import read_records, read_task
from assistant.advice_training import Training
from assistant.advice_types import Records
from assistant.knowledge import Knowledge
from assistant.services import Child, Services
from data.dataset import DatasetCard, Row, save_dataset
from data.home import Home, write_json, write_text
from data.records import AnyRecord, Split, record_id
from data.settings import load_settings
from tests.fakes import ADMIN_KEY, FakeGateway
from tests.loop_gateway import NamingEngine
from tests.scripted_gateway import served

ID = "0123abcd"
COUNTS: dict[Split, int] = {"train": 24, "validation": 6, "test": 10}


class AtWork(NamedTuple):
    """A lab and what it asks."""

    lab: Lab
    records: Records  # with test
    engine: NamingEngine

    @property
    def known(self) -> Records:
        """The records that arms are made of."""
        return self.records._replace(test=[])

    def again(self) -> Lab:
        """The lab of another process."""
        lab = self.lab
        return Lab(lab.home, lab.id, lab.task, lab.base, lab.gateway, lab.seed, lab.tell, lab.knowledge)


def save(home: Home, name: str, make: Any, counts: dict[Split, int] = COUNTS) -> None:
    """A dataset of `make(number, split)`."""
    rows = []
    for split, count in counts.items():
        for number in range(count):
            record: AnyRecord = make(number, split)
            rows.append(Row(id=record_id(record), split=split, record=record))
    save_dataset(home, name, rows, "made", "0", {}, None)


@contextmanager
def at_work(home: Home, base: Any, dataset: str, knowledge: Any = None) -> Iterator[AtWork]:
    """The lab of a dataset; `base` is a folder called 'base', as the fake engine has it."""
    home.create()
    write_text(home.settings_file, f'base_model = "{base}"\n')
    engine, settings = NamingEngine(), load_settings(home.settings_file)
    task = read_task(home, dataset)
    records = read_records(home, task, limit=None)
    model = prepare(settings.base_model, home, lambda _: None)
    with served(FakeGateway(home, engine, Knowledge(home, settings.knowledge), max_wait_s=20).app) as url:
        lab = Lab(home, ID, task, model, Gateway(url, ADMIN_KEY, 4), 0, lambda _: None, knowledge)
        yield AtWork(lab, records, engine)


def running(home: Home, url: str) -> None:
    """So that commands find the gateway: this process passes for the supervisor."""
    me = Child.of(os.getpid())
    assert me is not None
    Services(supervisor=me, gateway_url=url, page_url=url, base_model="base", engine_state="ready").save(home)


def told_only(lab: Lab, wanted: Training, dataset: DatasetCard) -> None:
    """In the place of a training: a version with a little LoRA in it."""
    from safetensors.numpy import save_file

    with Registry(lab.home).new_version(wanted.adapter, stable=False) as (version, folder):
        save_file({"a": np.full((2, 3), version, dtype=np.float32)}, folder / "adapter_model.safetensors")
        card = AdapterCard(
            adapter=wanted.adapter, version=version, base_model=lab.base.name, base_sha256=lab.base.sha256,
            dataset=dataset.name, dataset_digest=dataset.digest, recipe=wanted.recipe, method=wanted.method, rank=8,
            config={"seed": lab.seed, "system_prompt": wanted.system_prompt}, system_prompt=wanted.system_prompt,
            parent=None, scores={}, minutes=1, created="2026-11-21", files=file_hashes(folder),
        )  # fmt: skip
        write_json(folder / CARD, card.model_dump(mode="json"))
