"""What a training is asked: options without a use are refused, and a new option takes up older unfinished runs."""

from typing import Any

import pytest

from adapters import runs
from adapters.recipes import PAIRED, RECIPES, SCORED, find
from adapters.train import TrainConfig
from adapters.train_checks import check_options
from data.errors import BrogueError
from data.home import Home

OPTIONS = {"reward": "taste@1", "max_new_tokens": 9, "kl_target": 3.0, "head": True}
USED = {"reward": SCORED, "max_new_tokens": SCORED, "kl_target": SCORED, "head": ("labelled",)}


@pytest.mark.parametrize("recipe", list(RECIPES))
def test_each_recipe_takes_the_options_it_has_a_use_for_and_refuses_the_others(recipe: str) -> None:
    needed = {"reward": "taste@1"} if recipe in SCORED else {}
    check_options(TrainConfig.model_validate({"recipe": recipe, **needed}))
    for option, value in OPTIONS.items():
        config = TrainConfig.model_validate({"recipe": recipe, **needed, option: value})
        if recipe in USED[option]:
            check_options(config)
        else:
            with pytest.raises(BrogueError, match=f"'{recipe}' has no use for --{option.replace('_', '-')}; leave it"):
                check_options(config)
    if recipe in SCORED:
        with pytest.raises(BrogueError, match=f"learns from a reward model: --recipe {recipe} --reward NAME@N"):
            check_options(TrainConfig.model_validate({"recipe": recipe}))


def test_an_option_that_is_not_given_takes_up_a_run_of_before_there_was_one(home: Home) -> None:
    # As a run of Brogue 0.4.0 stands in run.json: every field there was, filled in.
    before = {"recipe": "dpo", "method": "lora", "system_prompt": None, "start": None, "rank": 8, "epochs": 3,
              "batch_size": 8, "learning_rate": 1e-4, "beta": 0.1, "reward": None, "rounds": 50, "max_tokens": 1024,
              "seed": 0}  # fmt: skip
    now = TrainConfig.model_validate(before).model_dump()
    assert set(now) > set(before), "options came since"

    def folder(config: dict[str, Any]) -> str:
        return runs.folder_of(home, runs.asked_now("a", "d", "0", "b", "0", config)).name

    assert folder(before) == folder(now)
    assert folder(now | {"max_new_tokens": 9}) != folder(now) != folder(now | {"head": True})
    assert folder(now | {"seed": 1}) != folder(now)


def test_simpo_alone_has_a_beta_of_its_own_among_those_that_compare_answers() -> None:
    assert {name: find(name).beta for name in PAIRED} == {
        "dpo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0, "reward": 0.1
    }  # fmt: skip
