"""Which texts a base model could take for marks of its chat template, for several families' files."""

import json
from pathlib import Path
from typing import Any

import pytest

from adapters.template import chat_templates, template_tokens
from tests.tiny_models import make_tokenizer

LLAMA_2 = "{% if system %}<<SYS>>\n{{ system }}\n<</SYS>>{% endif %}[INST] {{ messages[0]['content'] }} [/INST]"
GEMMA = "{{ bos_token }}<start_of_turn>user\n{{ messages[0]['content'] }}<end_of_turn>\n<start_of_turn>model\n"
PHI = "<|user|>\n{{ messages[0]['content'] }}<|end|>\n<|assistant|>\n"


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"tokenizer_config.json": {"chat_template": LLAMA_2, "bos_token": "<s>", "eos_token": {"content": "</s>"}}},
         {"<<SYS>>", "<</SYS>>", "[INST]", "[/INST]", "<s>", "</s>"}),
        ({"chat_template.jinja": GEMMA}, {"<start_of_turn>", "<end_of_turn>"}),
        ({"tokenizer_config.json": {"chat_template": PHI}}, {"<|user|>", "<|end|>", "<|assistant|>"}),
        ({"tokenizer.json": {"added_tokens": [{"content": "<|im_end|>", "special": True},
                                              {"content": "  ", "special": False}]}}, {"<|im_end|>"}),
        ({"tokenizer_config.json": {"added_tokens_decoder": {"7": {"content": "<eot>", "special": True}}}}, {"<eot>"}),
        ({"tokenizer.json": "broken"}, set()),
        ({}, set()),
    ],
)  # fmt: skip
def test_special_tokens_and_the_marks_in_the_template_are_found(
    tmp_path: Path, files: dict[str, Any], wanted: set[str]
) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    assert set(template_tokens(tmp_path)) == wanted


def test_chat_templates_are_those_that_transformers_finds(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    make_tokenizer(tmp_path, None)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())

    def write(files: dict[str, str], held: Any = None) -> None:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(content)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": held}))

    for files, held in [
        ({}, None),
        ({}, PHI),
        ({}, [{"name": "default", "template": PHI}, {"name": "tool_use", "template": GEMMA}]),
        ({"chat_template.jinja": f"\n{LLAMA_2}\n"}, PHI),
        ({"additional_chat_templates/tool_use.jinja": GEMMA}, PHI),
    ]:
        write(files, held)
        theirs = AutoTokenizer.from_pretrained(tmp_path).chat_template
        assert chat_templates(tmp_path) == ({"default": theirs} if isinstance(theirs, str) else theirs or {})
