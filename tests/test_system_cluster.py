"""Two real engines behind vllm-router, two gateways, PostgreSQL and a Chroma server: flips under load, and deaths.

benchmarks/scaling.py tells the same stories with three engines, and at length.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from data.home import Home, write_text
from tests.cluster import ENGINE_KEY, Cluster, cluster, find_router, run_in
from tests.cluster_load import (
    Stage,
    give_voices,
    kill,
    loaded_names,
    settled,
    submit_judgements,
    table,
    under_load,
    until_settled,
)
from tests.test_system_swap import SPEAKERS

pytestmark = [pytest.mark.slow, pytest.mark.engine]

FLIPS = 6
CLIENTS = 6
JUDGEMENTS = 200


@pytest.fixture(scope="module")
def made(
    up_home: Home, voice: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:  # fmt: skip
    voices, router = [voice(name) for name in SPEAKERS.values()], find_router() is not None
    with cluster(tmp_path_factory.mktemp("cluster"), up_home.models, engines=2, routed=router) as made:
        give_voices(made, voices)
        yield made


def test_gateways_flip_as_one_under_load_and_deaths_cost_only_what_was_being_written(made: Cluster) -> None:
    chance = random.Random(11)
    # The engine comes last: it takes a minute to start again, and much more under load.
    killed = ["PostgreSQL's backend", *(["router"] if made.router is not None else []), "engine"]

    async def story(stage: Stage) -> None:
        await settled(stage)
        for number in range(FLIPS):
            await stage.flip(2 - number % 2, at=number % 2)
        for what in killed:
            await kill(stage, what, chance)
            for number in range(FLIPS // 3):
                await stage.flip(2 - number % 2, at=number % 2)
            if what != "engine":
                await settled(stage)

    seen, stage = under_load(made, story, CLIENTS)
    rows = {row["phase"]: row for row in table(seen, stage.flips)}
    print(rows)
    assert all(row["mixed"] == 0 for row in rows.values()), "no answer is mixed"
    calm = rows["undisturbed"]
    assert calm["whole"] == calm["answers"], "nothing fails while nothing dies"
    assert all(row["cut_off_with_an_error"] <= CLIENTS for row in rows.values()), "only what was being written"
    assert all(flip.everywhere for flip in stage.flips), "every gateway had each version"
    until_settled(made)
    version = 2 - (FLIPS // 3 - 1) % 2
    assert all(
        any(name.startswith(f"swapper@{version}-") for name in names) for names in loaded_names(made, ENGINE_KEY)
    )


def test_documents_of_one_gateway_answer_at_the_other(made: Cluster, tmp_path: Path) -> None:
    home = made.homes[0]
    write_text(tmp_path / "docs" / "post.md", "# Post\n\nParcels leave the greenhouse on Tuesdays.\n")
    run_in(home, "knowledge", "add", "swapper", str(tmp_path / "docs"))
    run_in(made.homes[1], "share", "pull")
    assert "Tuesdays" in run_in(made.homes[1], "knowledge", "search", "swapper", "When do parcels leave?")
    run_in(home, "knowledge", "remove", "swapper", "--all")


def test_no_judgement_that_was_acknowledged_is_lost_with_a_gateway(made: Cluster) -> None:
    gateway = made.gateways[1]
    sent, there = submit_judgements(made, JUDGEMENTS, gateway.kill, JUDGEMENTS // 2)
    assert len(sent) == JUDGEMENTS
    assert sent.keys() <= there
    gateway.start()
    gateway.wait()
