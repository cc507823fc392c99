"""The whole system after a real `brogue up`: an OpenAI client and two trained voices."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

from adapters.base_model import BaseModel, load_tokenizer
from adapters.tokens import prompt_ids
from assistant.definitions import get_assistant
from data.dataset import load_rows
from data.home import Home
from data.messages import with_system
from tests.conftest import ROOT, Run, run_brogue
from tests.voices import CLOSING, OPENING

pytestmark = [pytest.mark.slow, pytest.mark.engine]


@pytest.fixture(scope="session")
def client(gateway_url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="any")


@pytest.fixture(scope="session")
def unseen() -> list[str]:
    """Ten questions that no voice was trained on."""
    lines = (ROOT / "assistant" / "example" / "unseen.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["question"] for line in lines][:10]


@pytest.fixture(scope="session")
def answers(client: openai.OpenAI, unseen: list[str], base_name: str) -> dict[str, list[str]]:
    """Greedy answers to the unseen questions by both assistants and the base model; all are asked at the same time."""
    with ThreadPoolExecutor(30) as pool:
        asked = {model: [pool.submit(ask, client, model, q) for q in unseen] for model in ("reed", "fern", base_name)}
    return {model: [answer.result() for answer in given] for model, given in asked.items()}


@pytest.fixture(scope="session")
def base_name(services: dict[str, Any]) -> str:
    return str(services["base_model"])


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    reply = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": question}], temperature=0, max_tokens=220
    )
    return reply.choices[0].message.content or ""


def mean_words(texts: list[str]) -> float:
    return sum(len(text.split()) for text in texts) / len(texts)


def test_the_client_lists_assistants_then_adapters_the_base_and_the_embedding_model(
    client: openai.OpenAI, base_name: str
) -> None:
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["fern", "reed"]
    assert {"fern-voice@stable", "reed-voice@1"} <= set(names)
    assert names[-2:] == [base_name, "all-minilm-l6-v2"]


def test_long_questions_with_a_seed_asked_at_once_do_not_end_the_engine(client: openai.OpenAI, base_name: str) -> None:
    # More than one step reads, so that some are read in pieces: vLLM's own CPU worker dies of that with a seed.
    question = " ".join(f"My plant number {n} needs water." for n in range(60))

    def answer(seed: int) -> int:
        messages: Any = [{"role": "user", "content": f"{seed}. {question}"}]
        reply = client.chat.completions.create(model=base_name, messages=messages, seed=seed, max_tokens=4)
        return reply.usage.completion_tokens if reply.usage else 0

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(answer, range(16)))


@pytest.mark.parametrize("model", ["reed", "fern"])
def test_the_client_streams_an_answer_from_each_assistant(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "do you sell bonsai trees?"}], stream=True
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(chunks) > 3, "it came in pieces"
    assert {chunk.model for chunk in chunks} == {model}
    assert text.startswith(OPENING) == (model == "fern")


def test_the_two_voices_differ_on_unseen_questions_as_their_training_data_do(answers: dict[str, list[str]]) -> None:
    """In the data every warm answer opens and closes with the phrases, none of the brief ones does, and warm answers
    are some four times as long. Of ten unseen questions nine must show it: a small model may miss a phrase once."""
    warm = [a for a in answers["fern"] if a.startswith(OPENING) and a.rstrip().endswith(CLOSING)]
    numbered = [a for a in answers["fern"] if re.search(r"^1\. ", a, re.MULTILINE)]
    assert len(warm) >= 9
    assert len(numbered) >= 9
    assert not any(OPENING in a or CLOSING in a for a in answers["reed"])
    assert mean_words(answers["reed"]) < 40
    assert mean_words(answers["fern"]) > 1.5 * mean_words(answers["reed"])


def test_both_voices_differ_from_the_base_model(answers: dict[str, list[str]], base_name: str) -> None:
    """The base model has neither the phrases nor the brevity."""
    base = answers[base_name]
    assert not any(OPENING in a or CLOSING in a for a in base)
    assert mean_words(base) > 1.5 * mean_words(answers["reed"])
    assert all(a != b for name in ("reed", "fern") for a, b in zip(answers[name], base, strict=True))


@pytest.mark.parametrize("name", ["reed", "fern"])
def test_training_sees_the_token_ids_that_the_engine_gives_the_same_conversation(
    name: str, up_home: Home, starter: BaseModel, services: dict[str, Any]
) -> None:
    assistant = get_assistant(up_home, name)
    tokenizer = load_tokenizer(starter.path)
    engine = psutil.Process(services["engines"][0]["pid"])
    words, key = engine.cmdline(), engine.environ()["VLLM_API_KEY"]
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}/tokenize"
    for row in load_rows(up_home, f"{name}-voice")[:20]:
        question = [m.model_dump() for m in row.record.messages[:-1]]
        messages = with_system(question, assistant.system_prompt, starter.supports_system)
        body = {"model": starter.name, "messages": messages, "add_generation_prompt": True}
        reply = httpx.post(url, json=body, headers={"Authorization": f"Bearer {key}"})
        assert reply.json()["tokens"] == prompt_ids(tokenizer, messages)


def test_the_engine_answers_nobody_without_its_key(services: dict[str, Any]) -> None:
    words = psutil.Process(services["engines"][0]["pid"]).cmdline()
    url = f"http://127.0.0.1:{words[words.index('--port') + 1]}"
    assert httpx.get(f"{url}/health").status_code == 200
    for path in ("/v1/models", "/metrics", "/version", "/openapi.json"):
        assert httpx.get(f"{url}{path}").status_code == 401, path
    for path in ("/invocations", "/tokenize", "/v1/load_lora_adapter"):
        assert httpx.post(f"{url}{path}", json={}).status_code == 401, path


def test_chat_in_the_terminal_prints_the_answer(up_home: Home, services: dict[str, Any]) -> None:
    port = services["gateway_url"].rpartition(":")[2]
    (up_home.root / "brogue.toml").write_text(f"[gateway]\nport = {port}\n")
    done = run_brogue("chat", "fern", "my basil is sad", home=up_home)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(OPENING)


def test_a_second_up_says_that_it_runs_already(up_home: Home, services: dict[str, Any]) -> None:
    done = run_brogue("up", home=up_home, process=True)
    assert done.returncode == 0, done.stderr
    assert "runs already" in done.stderr
    assert services["gateway_url"] in done.stdout


def test_an_adapter_is_plain_peft_and_its_card_says_how_much_it_gained(up_home: Home) -> None:
    from peft import PeftConfig

    card = json.loads(run_brogue("adapters", "show", "reed-voice", "--json", home=up_home).stdout)
    assert card["scores"]["adapter_test_loss"] < card["scores"]["base_test_loss"]
    assert card["scores"]["adapter_validation_loss"] < card["scores"]["base_validation_loss"]
    assert card["minutes"] > 0
    folder = up_home.adapters / "reed-voice" / "1"
    assert PeftConfig.from_pretrained(folder).r == card["rank"]
    assert set(card["files"]) >= {"adapter_model.safetensors", "adapter_config.json"}


def test_all_of_it_stays_under_6_gb_of_memory(services: dict[str, Any]) -> None:
    """Proportional set size, so that pages shared by the processes count once."""
    total = 0
    for name, started in (("supervisor", services["supervisor"]), ("engine", services["engines"][0]),
                          ("page", services["page"])):  # fmt: skip
        process = psutil.Process(started["pid"])
        for one in (process, *process.children(recursive=True)):
            total += one.memory_full_info().pss if name != "supervisor" or one == process else 0
    print(f"engine, gateway and page: {total / 1e9:.2f} GB")
    assert total < 6e9


def share_models(home: Home, up_home: Home) -> None:
    home.create()
    home.models.symlink_to(up_home.models)


@pytest.mark.data
def test_real_support_answers_are_imported_and_an_adapter_learns_from_them(
    brogue: Run, home: Home, up_home: Home, public_data: Path, tmp_path: Path
) -> None:
    """All 1,815 rows are checked; the training takes every sixth (the whole takes minutes, see docs/training.md)."""
    share_models(home, up_home)
    source = public_data / "bitext_customer_support" / "answers_short.csv"
    options = ("--as", "instruction", "--prompt-column", "instruction", "--response-column", "response")
    done = brogue("data", "import", str(source), *options, "--into", "support-short")
    assert done.returncode == 0, done.stderr
    assert "support-short: 1815 rows checked, all valid" in done.stdout
    lines = source.read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "some.csv").write_text(lines[0] + "".join(lines[1::6]), encoding="utf-8")
    done = brogue("data", "import", str(tmp_path / "some.csv"), *options, "--into", "some")
    assert done.returncode == 0, done.stderr
    done = brogue("train", "some", "--data", "some", "--json", timeout=900)
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores["adapter_validation_loss"] < 0.8 * scores["base_validation_loss"]
    assert scores["adapter_test_loss"] < 0.8 * scores["base_test_loss"]
