"""What stands in deploy/, read as the tools read it."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from data.settings import Settings, load_settings
from tests.conftest import ROOT

DEPLOY = ROOT / "deploy"
SECRET_WORDS = re.compile(r"PASSWORD|KEY|SECRET|TOKEN")


def settings() -> Settings:
    """The one settings file."""
    return load_settings(DEPLOY / "brogue.toml")


@cache
def compose() -> dict[str, Any]:
    """The Compose file, with its variables as they are written."""
    return dict(yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8")))


@cache
def dockerfile() -> str:
    return (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


@cache
def kubernetes() -> list[dict[str, Any]]:
    """What Kustomize makes of deploy/; without kubectl the files as they are, which say the same of most."""
    if kubectl := shutil.which("kubectl"):
        done = subprocess.run([kubectl, "kustomize", DEPLOY], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return list(yaml.safe_load_all(done.stdout))
    rules = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text(encoding="utf-8"))
    return [one for file in rules["resources"] for one in yaml.safe_load_all((DEPLOY / file).read_text("utf-8"))]


def found(kind: str, name: str) -> dict[str, Any]:
    """One resource of Kubernetes'."""
    return next(one for one in kubernetes() if one["kind"] == kind and one["metadata"]["name"] == name)


def workloads() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and pod of each Deployment and StatefulSet."""
    for one in kubernetes():
        if one["kind"] in ("Deployment", "StatefulSet"):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


def containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def is_ours(image: str) -> bool:
    """Whether it is the image whose entrypoint is `brogue`."""
    return image.rpartition("/")[2].startswith(("brogue:", "brogue-cpu", "brogue-gpu"))


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every `brogue …` in deploy/ and docs/deploy.md: where it stands, and its words."""
    for name, service in compose()["services"].items():
        if is_ours(service["image"]):
            yield f"compose.yaml: {name}", service["command"]
    for name, pod in workloads():
        for container in containers(pod):
            if is_ours(container["image"]):
                yield f"kubernetes: {name}/{container['name']}", container["args"]
    for path in (DEPLOY / "training/sky.yaml", DEPLOY / "training/accelerate.yaml", DEPLOY / "ray/serve_llm.py"):
        text = path.read_text(encoding="utf-8")
        for name, value in re.findall(r"^  (\w+): (\w*)", text, re.MULTILINE):  # variables, which only SkyPilot's has
            text = text.replace(f"${name}", value or "x")
        yield from ((path.name, words) for words in typed(text))
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/deploy.md").read_text(encoding="utf-8"), re.DOTALL)
    for block in blocks:
        yield from (("docs/deploy.md", words) for words in typed(block))


# What stands before our command's words: the command itself, a container of ours, or accelerate.
_BEFORE = re.compile(r"^\s*(?:\.venv/bin/)?brogue |run --rm worker |exec worker brogue | -- brogue |assistant\.cli ")


def typed(text: str) -> Iterator[list[str]]:
    """The words after `brogue` in lines of a shell."""
    for line in re.sub(r"\\\n#?", " ", text).splitlines():
        if before := _BEFORE.search(line.split("Then, where")[0]):
            yield shlex.split(line[before.end() :], comments=True)


def lock(package: str, kind: str = "cpu") -> str:
    """The version of a package that is locked."""
    text = (ROOT / f"requirements/{kind}.txt").read_text(encoding="utf-8")
    line = re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)
    assert line, package
    return line[1]


def run_tool(words: Sequence[str | Path], env: dict[str, str] | None = None) -> None:
    """A linter, which must have nothing to say against it."""
    done = subprocess.run(words, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
