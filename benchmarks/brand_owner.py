"""A simulated brand owner ranks answers; does `brogue retrain --auto` make the adapter what the owner wants?

    python -m benchmarks.brand_owner --home FOLDER [--recipes dpo ppo] [--port 8110]

The owner has a fixed rule that nobody is told: an answer with the company's closing line is better than one without;
of two alike in that, the shorter is better. A version of the base model in brogue.toml (the starter model, unless told
otherwise) learns answers of which a third end so and more than half are long. At temperature 1 it writes four answers
to each of 100 questions; the owner puts them in order through /v1/feedback. Then for each recipe, from that same
version: `brogue retrain --auto`, and on 60 questions that neither has seen the owner chooses between one answer of the
new version and one of its predecessor, both at temperature 1. Prints a JSON line for each recipe. What is complete is
not done again: after a stop the same command goes on.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from adapters import loop
from adapters.held_out import wilson
from adapters.registry import Registry
from assistant.client_feedback import FeedbackClient
from assistant.services import running_gateway
from data.home import Home, write_json, write_text

NAME, QUEUE = "owner-voice", "owner"
CLOSING = "Fair winds from the Harbour crew."
SYSTEM = "You answer customers of Harbour Lamps, a shop for lamps and lanterns."
THINGS = ("desk lamp", "storm lantern", "floor lamp", "reading light", "porch light", "lamp shade", "night light",
          "candle holder", "string of lights", "wall lamp", "camping lantern", "dimmer", "light bulb", "oil lamp",
          "clip lamp", "mirror light", "garden torch", "ceiling lamp", "bedside lamp", "piano lamp", "work light",
          "paper lantern", "battery pack", "lamp stand", "ship's lantern")  # fmt: skip
FORMS: tuple[tuple[str, str, str], ...] = (  # question, what is answered, what a long answer adds
    ("Can I send the {} back?", "You can send the {} back within 40 days.",
     "Please pack it in its box so that nothing breaks on the way. We pay you back as soon as it has arrived here."),
    ("How long does delivery of the {} take?", "The {} reaches you within three working days.",
     "It leaves our house by the harbour on the day you order. You get a message with a number to follow it."),
    ("Is there a guarantee on the {}?", "The {} has a guarantee of two years.",
     "It covers all faults of material and of work. Keep the receipt, since we ask for it in such a case."),
    ("How do I clean the {}?", "Wipe the {} with a soft, dry cloth.",
     "Unplug it before you begin and let it cool down. Never use anything that scratches or a strong cleaner."),
    ("My {} came broken, what now?", "We send you a new {} at once.",
     "Please take a picture of the damage and of the box. You need not send the broken one back to us."),
    ("Do you have the {} in brass?", "Yes, the {} comes in brass too.",
     "It costs a little more than the painted one. In our shop you can look at both of them side by side."),
    ("Can you wrap the {} as a present?", "Yes, we wrap the {} for you.",
     "Choose between blue paper and plain paper at the end of your order. A card with your words may be added."),
    ("Where is the {} made?", "The {} is made in our own workshop.",
     "Seven people work there, most of them for many years. On the first Friday of a month you may visit them."),
    ("Can I pay for the {} later?", "You can pay for the {} within 14 days.",
     "Choose the invoice at the end of your order. It comes by post together with what you have ordered."),
)  # fmt: skip
TRAINED, RANKED, FRESH = 65, 100, 60
CLOSED, LONG = 0.35, 0.6  # shares of the answers that the first version learns from
ARM = {"model": f"{NAME}@1", "temperature": 1.0, "max_tokens": 80}
AT_ONCE = 4


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--recipes", nargs="*", choices=("dpo", "ppo"), default=["dpo", "ppo"])
    parser.add_argument("--port", type=int, default=8110, help="the gateway's; the page has the next one")
    given = parser.parse_args()
    home = Home(given.home.absolute())
    prepare(home)
    _brogue(home, "up", "--port", str(given.port), "--page-port", str(given.port + 1))
    client = FeedbackClient.with_key(*_running(home))
    rank(client)
    for recipe in given.recipes:
        file = home.root / f"{recipe}.json"
        if not file.exists():
            write_json(file, retrained(home, client, recipe))
        print(file.read_text(encoding="utf-8"), flush=True)
    _brogue(home, "down")


def questions() -> list[tuple[str, str, str]]:
    """All questions with what is answered and added, in an order drawn once."""
    found = [tuple(part.format(thing) for part in form) for thing in THINGS for form in FORMS]
    random.Random(0).shuffle(found)
    return found  # type: ignore[return-value]


def prepare(home: Home) -> None:
    """An assistant and its first version, which does what the owner wants now and then."""
    write_text(home.assistants / "harbour.yaml", f"name: harbour\nadapter: {NAME}\nsystem_prompt: {SYSTEM}\n")
    if Registry(home).versions(NAME):
        return
    lot, lines = random.Random(1), []
    for question, answer, more in questions()[:TRAINED]:
        for _ in range(3):  # the same question in other words of the house
            said = [answer, *([more] if lot.random() < LONG else []), *([CLOSING] if lot.random() < CLOSED else [])]
            lines.append(json.dumps({"prompt": question, "response": " ".join(said)}))
    file = home.root / "answers.jsonl"
    write_text(file, "".join(f"{line}\n" for line in lines))
    _brogue(home, "data", "import", str(file), "--into", NAME, "--split", "90/10/0", "--replace")
    _brogue(home, "train", NAME, "--data", NAME, "--seed", "1")


def rank(client: FeedbackClient) -> None:
    """The owner's rankings of four answers to each question."""
    asked = questions()[TRAINED : TRAINED + RANKED]
    if QUEUE not in {queue["name"] for queue in client.queues()}:
        prompts = [{"messages": [{"role": "user", "content": question}]} for question, _, _ in asked]
        client.add_queue(QUEUE, [ARM] * 4, prompts=prompts, overlap=0, repeat=0)
    while (turn := client.next_turn(QUEUE)["turn"]) is not None:
        for event in client.turn_answers(turn["id"]):
            turn = event.get("turn", turn)
        texts = [shown["text"] for shown in sorted(turn["answers"], key=lambda shown: shown["position"])]
        client.judge_turn(turn["id"], ranks=ranks(texts))


def worth(text: str) -> tuple[bool, int]:
    """The owner's rule; more is better."""
    return text.strip().endswith(CLOSING), -len(text.split())


def ranks(texts: Sequence[str]) -> list[int]:
    """The owner's order: 0 is best, equal answers are a tie."""
    order = sorted({worth(text) for text in texts}, reverse=True)
    return [order.index(worth(text)) for text in texts]


def retrained(home: Home, client: FeedbackClient, recipe: str) -> dict[str, Any]:
    """A round from the first version; what the owner says of its version, and the time of each step."""
    known = loop.rounds(home, NAME)
    if not any(one.complete and one.asked.recipe == recipe for one in known):
        if Registry(home).resolve(NAME).version != 1 and (not known or known[-1].complete):
            _brogue(home, "adapters", "promote", f"{NAME}@1")
        _brogue(home, "retrain", NAME, "--recipe", recipe, "--auto")
    done = next(one for one in loop.rounds(home, NAME) if one.complete and one.asked.recipe == recipe)
    assert done.version is not None
    live = next(one for one in client.models() if one["id"] == done.version)
    return {
        "recipe": recipe, "version": done.version, "stable": Registry(home).resolve(NAME).name,
        "live": live["id"], "verdict": done.came_of("gate", "result"), **preferred(client, done.version),
        "minutes": {name: step.minutes for name, step in done.steps.items()},
        "all_minutes": round(sum(step.minutes for step in done.steps.values()), 1),
    }  # fmt: skip


def preferred(client: FeedbackClient, version: str) -> dict[str, Any]:
    """How often the owner likes the version's answer better than its predecessor's; a tie is no preference."""
    fresh = [question for question, _, _ in questions()[TRAINED + RANKED : TRAINED + RANKED + FRESH]]
    new, old = (list(_answers(client, model, fresh)) for model in (version, f"{NAME}@1"))
    won = sum(worth(ours) > worth(theirs) for ours, theirs in zip(new, old, strict=True))
    ties = sum(worth(ours) == worth(theirs) for ours, theirs in zip(new, old, strict=True))
    low, high = (round(end, 3) for end in wilson(won, len(fresh)))
    return {
        "fresh": len(fresh), "preferred": won / len(fresh), "low": low, "high": high, "ties": ties,
        **{f"{who}_{what}": value for who, texts in (("old", old), ("new", new)) for what, value in _of(texts)},
    }  # fmt: skip


def _of(texts: Sequence[str]) -> Iterator[tuple[str, float]]:
    yield "closing", round(sum(worth(text)[0] for text in texts) / len(texts), 3)
    yield "words", round(sum(len(text.split()) for text in texts) / len(texts), 1)


def _answers(client: FeedbackClient, model: str, asked: Sequence[str]) -> Iterator[str]:
    options = {"temperature": 1.0, "max_tokens": ARM["max_tokens"]}

    def answer(number: int) -> str:
        messages = [{"role": "user", "content": asked[number]}]
        return client.answers(model, messages, seed=number, **options)[0].text

    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield from pool.map(answer, range(len(asked)))


def _running(home: Home) -> tuple[str, str]:
    found = running_gateway(home)
    assert found is not None
    return found


def _brogue(home: Home, *words: str) -> None:
    print(f"$ brogue {' '.join(words)}", file=sys.stderr, flush=True)
    env = os.environ | {"BROGUE_HOME": str(home.root)}
    done = subprocess.run([sys.executable, "-m", "assistant.cli", *words], env=env, stdout=sys.stderr)
    if done.returncode != 0:
        sys.exit(done.returncode)  # the command has said why


if __name__ == "__main__":
    main()
