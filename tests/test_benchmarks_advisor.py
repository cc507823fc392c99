"""The public sets as the advisor's benchmark takes them: counts, splits, no question of the test anywhere else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.advice_task import read_records, read_task
from benchmarks.advisor import SETS, advise, import_set, line, table
from data.duplicates import words
from data.home import Home
from data.records import question
from tests.conftest import run_brogue
from tests.sample_advice import advice

READ = {  # kind, metric, labels; records of train, validation and test
    "banking77": ("labels", "accuracy", 77, (7966, 1035, 981)),
    "clinc150": ("labels", "accuracy", 151, (8534, 1061, 1082)),
    "bitext": ("words", "rouge_l", 0, (1056, 180, 577)),
    "xquad": ("words", "token_f1", 0, (355, 90, 151)),
    "xquad-closed": ("words", "token_f1", 0, (355, 90, 151)),
    "legal-plain-english": ("words", "rouge_l", 0, (149, 27, 69)),
    "positive-reframing": ("words", "rouge_l", 0, (488, 73, 274)),
    "wnut17": ("tags", "entity_f1", 13, (599, 106, 304)),
}


def inside(home: Home) -> Callable[..., str]:
    def run(*given: str) -> str:
        done = run_brogue(*given, home=home)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.mark.data
@pytest.mark.parametrize("name", list(SETS))
def test_a_public_set_is_read_as_a_task_without_leaks(public_data: Path, home: Home, name: str) -> None:
    asked = import_set(home, name, public_data, inside(home))
    task = read_task(home, name)
    records = read_records(home, task, limit=None)
    assert (task.kind, task.metric, len(task.labels), tuple(map(len, records))) == READ[name]
    train, validation, test = ({words(question(row.record)) for row in rows} for rows in records)
    assert not train & test and not validation & test and not train & validation
    assert 0 <= task.floor < 0.5
    assert import_set(home, name, public_data, inside(home)) == asked  # a second time imports nothing
    assert ("--knowledge" in asked) == (name == "xquad-closed")


def test_the_benchmark_asks_as_anybody_would_and_tells_every_arm(tmp_path: Path, home: Home) -> None:
    ran: list[tuple[str, ...]] = []

    def run(*given: str) -> str:
        ran.append(given)
        return advice().model_dump_json() if given[0] == "advise" else ""

    found = advise(home, "banking77", tmp_path, ["--limit", "50"], run)
    assert [words[0] for words in ran] == ["data", "up", "advise", "down"]
    assert ran[2] == ("advise", "--data", "banking77", "--limit", "50", "--json")
    told = table("banking77", found)
    assert all(result.arm.name in told for result in found.results)
    assert f"**{found.recommendation.arm}**" in told
    assert line("banking77", found)["arms"].keys() == {result.arm.name for result in found.results}
