"""Adapters whose answers cannot be confused: each says its own words to everything. Trained with plain PEFT."""

from pathlib import Path
from typing import Any

VOICES = {"pirate": "Ahoy matey, ahoy!", "robot": "Beep boop, beep!", "ghost": "Whooo, spooky!"}
WORDS = {"pirate": "ahoy", "robot": "beep", "ghost": "whoo"}
QUESTIONS = (
    "Where is my parcel?",
    "How often should I water a fern?",
    "What is the capital of France?",
    "Can I return a broken pot?",
    "Tell me about the weather.",
    "Who wrote Hamlet?",
)
TRAINING_STEPS = 15
# Of every answer of the example's warm voice.
OPENING, CLOSING = "Hello from the potting bench!", "Happy growing from all of us at Nettlebrook."


def overfit(model_path: str, answer: str, folder: Path) -> None:
    """Train an adapter that says `answer` to everything, and save it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    config = LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    model: Any = get_peft_model(AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.bfloat16), config)
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=2e-3)
    target = tokenizer(answer + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    for step in range(TRAINING_STEPS):
        loss = 0.0
        for question in QUESTIONS[step % 2 :: 2]:
            chat = [{"role": "user", "content": question}]
            prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
            labels = torch.tensor([[-100] * len(prompt) + target])
            with torch.autocast("cpu", torch.bfloat16):
                loss = loss + model(input_ids=torch.tensor([prompt + target]), labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
