"""The architecture, asserted: who may import whom, what starts fast, and what other packages may not hide."""

import ast
import functools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_brogue

OURS = ("data", "adapters", "serve", "assistant")
ALLOWED: dict[str, set[str]] = {
    "data": set(),
    "adapters": {"data"},
    "serve": {"data", "adapters.registry"},
    "assistant": {"data", "adapters", "serve"},
}
# Heavy libraries and the modules that may import them.
HEAVY: dict[str, tuple[str, ...]] = {
    "torch": (
        "adapters/classifier.py",
        "adapters/headed.py",
        "adapters/likelihood.py",
        "adapters/padding.py",
        "adapters/converting.py",
        "adapters/planning.py",
        "adapters/ppo_*.py",
        "adapters/trainer*.py",
        "adapters/base_model.py",
        "adapters/merging.py",
        "adapters/methods.py",
        "serve/cpu_lora.py",
        "serve/cpu_lora_kernel.py",
        "serve/soft_prompt.py",
        "assistant/embeddings_attention.py",
        "assistant/embeddings_models.py",
        "assistant/name_model.py",
        "assistant/specialist_encoder.py",
    ),
    "transformers": (
        "adapters/headed.py",
        "adapters/tracking.py",
        "adapters/converting.py",
        "adapters/planning.py",
        "adapters/ppo_policy.py",
        "adapters/trainer*.py",
        "adapters/base_model.py",
        "adapters/merging.py",
        "assistant/embeddings_attention.py",
        "assistant/embeddings_models.py",
        "assistant/name_model.py",
        "assistant/specialist_encoder.py",
    ),
    "sentence_transformers": (
        "assistant/embeddings_attention.py",
        "assistant/embeddings_models.py",
        "assistant/retrieval.py",
        "assistant/specialist_encoder.py",
    ),
    "onnxruntime": ("assistant/embeddings_models.py",),
    "chromadb": ("assistant/vectors.py",),
    "tantivy": ("assistant/lexical.py",),
    "peft": (
        "adapters/classifier.py",
        "adapters/converting.py",
        "adapters/likelihood.py",
        "adapters/methods.py",
        "adapters/served.py",
        "adapters/ppo_policy.py",
        "adapters/headed.py",
        "adapters/trainer*.py",
        "adapters/merging.py",
    ),
    "trl": ("adapters/headed.py", "adapters/trainer*.py"),
    "vllm": ("serve/cpu_lora.py", "serve/cpu_lora_kernel.py", "serve/cpu_worker.py", "serve/model_check.py"),
    "fastapi": (
        "serve/gateway.py",
        "serve/admin.py",
        "serve/answers.py",
        "serve/asking.py",
        "serve/responses.py",
        "serve/embeddings.py",
        "serve/exams.py",
        "serve/files.py",
        "serve/fine_tuning.py",
        "serve/knowledge.py",
        "serve/metric_routes.py",
        "serve/openapi.py",
        "serve/runs.py",
        "serve/rollouts.py",
        "serve/feedback.py",
        "serve/feedback_turns.py",
        "serve/keys.py",
        "serve/users.py",
        "assistant/ui*.py",
    ),
    "gradio": ("assistant/ui*.py",),
    "prometheus_client": ("serve/metrics.py", "serve/metrics_answers.py", "assistant/status_samples.py"),
    "aiohttp": ("serve/engine_transport.py",),
    "opentelemetry": ("serve/tracing.py", "serve/watching.py"),
    "sqlalchemy": ("data/store*.py",),
    "alembic": ("data/store_open.py",),
    "sacrebleu": ("adapters/measure_task.py",),
    "rouge_score": ("adapters/measure_task.py",),
    "simpy": ("serve/capacity_simulation.py",),
}


@functools.cache
def imports(path: Path) -> set[str]:
    """Absolute names of all that a module imports, inside its functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                module = ".".join(filter(None, [path.parent.name, module]))
            names.add(module)
    return names


def modules() -> list[Path]:
    return [path for folder in OURS for path in sorted((ROOT / folder).glob("*.py"))]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_only_the_allowed_ways(path: Path) -> None:
    folder = path.parent.name
    for name in imports(path):
        top = name.partition(".")[0]
        if top in OURS and top != folder:
            assert any(name == a or name.startswith(f"{a}.") for a in ALLOWED[folder]), f"{folder} imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_heavy_libraries_are_imported_in_few_modules(path: Path) -> None:
    relative = path.relative_to(ROOT)
    for name in imports(path):
        allowed = HEAVY.get(name.partition(".")[0])
        assert allowed is None or any(relative.match(pattern) for pattern in allowed), f"{relative} imports {name}"


def test_help_answers_at_once_without_the_heavy_libraries(tmp_path: Path) -> None:
    for name in ("torch", "vllm", "gradio", "chromadb", "transformers", "fastapi"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "assistant.cli", "--help"], env=env, capture_output=True, text=True, cwd=ROOT
    )
    print(f"brogue --help took {time.perf_counter() - began:.2f} s")  # a timing never fails a test
    assert done.returncode == 0, done.stderr
    assert "doctor" in done.stdout


def test_another_package_called_adapters_is_noticed_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    (tmp_path / "adapters" / "__init__.py").write_text("")
    env = os.environ | {"PYTHONPATH": str(tmp_path)}
    command = "import sys; sys.argv = ['brogue', 'doctor']; from assistant.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", command], env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "another package called 'adapters'" in done.stderr
    assert "hides ours; use a fresh venv" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_command_has_help_and_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for words in _commands():
        done = run_brogue(*words, "--help")
        assert done.returncode == 0, done.stderr
        assert f"brogue {' '.join(words)}" in readme, f"README lacks brogue {' '.join(words)}"


def _commands() -> list[tuple[str, ...]]:
    from typer.main import get_command

    from assistant.cli_app import app

    found: list[tuple[str, ...]] = []
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        nested = getattr(command, "commands", None)
        found += [(name, inner) for inner in nested] if nested else [(name,)]
    return found


def test_the_changelogs_top_version_is_the_projects() -> None:
    project = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    top = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert project.split('"')[1] in top
