"""The example workspace: Nettlebrook, an invented plant shop with two voices, one of which answers from its help pages.

Also what `brogue up` does for any home: an assistant whose adapter has no version for the present base model is trained
if a dataset of the adapter's name is there.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from adapters.base_model import BaseModel
from adapters.registry import Registry
from assistant.console import say, working
from assistant.definitions import list_assistants
from data.dataset import list_datasets, make_rows, save_dataset
from data.errors import BrogueError
from data.home import Home
from data.importing import read_file

EXAMPLE = Path(__file__).parent / "example"
VOICES = {"reed-voice": "brief", "fern-voice": "warm"}  # dataset and adapter → column of voices.jsonl
SHARES = (80, 10, 10)
FROM_DOCUMENTS = "reed"  # the assistant that answers from the help pages
TO_ADD = ".to-add"  # stands beside them until that is so


def create_example(home: Home) -> bool:
    """Copy the example into a home that has no assistants yet; true if it did."""
    if home.assistants.exists():
        return False
    source = EXAMPLE / "voices.jsonl"
    for name, column in VOICES.items():
        imported = read_file(source, "instruction", {"prompt": "question", "response": column})
        rows = make_rows(imported.records, SHARES)
        save_dataset(home, name, rows, source.name, imported.sha256, imported.columns, SHARES, replace=True)
    documents = _help_pages(home)
    shutil.copytree(EXAMPLE / "knowledge", documents, dirs_exist_ok=True)
    (documents / TO_ADD).touch()
    # The assistants come last: their folder says that the example is complete.
    staging = home.root / ".assistants.new"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(EXAMPLE / "assistants", staging)
    staging.rename(home.assistants)
    return True


def add_help_pages(home: Home) -> None:
    """Give the example's documents to the assistant that answers from them, unless that was done once."""
    from assistant.knowledge_documents import add_documents

    documents = _help_pages(home)
    if not (documents / TO_ADD).exists():
        return
    try:
        with working("example") as tell:
            add_documents(home, FROM_DOCUMENTS, [documents], tell)
        (documents / TO_ADD).unlink()
    except BrogueError as error:  # the voices can be tried all the same; the next start tries again
        say(f"{FROM_DOCUMENTS} answers without documents, since they could not be added: {error}")


def _help_pages(home: Home) -> Path:
    return home.root / "documents" / "nettlebrook"


def untrained_adapters(home: Home, base: BaseModel) -> list[str]:
    """Adapters that assistants name but that have no version for this base model, in the assistants' order."""
    registry = Registry(home)
    names = dict.fromkeys(a.adapter_name for a in list_assistants(home) if a.adapter_name)
    return [n for n in names if _newest_for(registry, n, base) is None]


def train_missing(home: Home, base: BaseModel, tell: Callable[[str], None]) -> None:
    """Train what is missing, each in a process of its own: its memory is free again before the engine starts."""
    datasets = {card.name for card in list_datasets(home)}
    for adapter in untrained_adapters(home, base):
        if adapter not in datasets:
            tell(
                f"adapter '{adapter}' has no version for base model {base.name}, so assistants that use it cannot "
                f"answer yet; train it: brogue train {adapter} --data NAME"
            )
            continue
        if _run_training(adapter) != 0:
            raise BrogueError(f"adapter '{adapter}' could not be trained, see above; run brogue up again to go on")


def _run_training(adapter: str) -> int:
    """`brogue train` on the dataset of the adapter's name; its exit code. If we are stopped, it may save first."""
    process = subprocess.Popen([sys.executable, "-m", "assistant.cli", "train", adapter, "--data", adapter])
    try:
        return process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def point_stable_at_base(home: Home, base: BaseModel) -> list[str]:
    """Where `stable` means a version of another base model, let it mean the newest of this one; returns the changed.

    One that failed its exam is passed over: only a person may force it.
    """
    registry, asked = Registry(home), {assistant.adapter_name for assistant in list_assistants(home)}
    changed = []
    for adapter in registry.adapters():
        newest = _newest_for(registry, adapter, base, may_have_failed=False)
        stable = registry.aliases(adapter).get("stable")
        if newest is None or (stable is None and adapter not in asked):  # no reward model, nor what is only tried out
            continue
        if stable is None or registry.card(adapter, stable).base_sha256 != base.sha256:
            why = f"trained on the present base model, {base.name}"
            registry.move(adapter, "stable", newest, who="brogue", why=why)
            changed.append(f"{adapter}@{newest}")
    return changed


def _newest_for(registry: Registry, adapter: str, base: BaseModel, may_have_failed: bool = True) -> int | None:
    fitting = [n for n in registry.versions(adapter) if registry.card(adapter, n).base_sha256 == base.sha256]
    if not may_have_failed:
        verdicts = {n: registry.verdict(adapter, n) for n in fitting}
        fitting = [n for n, verdict in verdicts.items() if verdict is None or verdict.result != "fail"]
    return max(fitting, default=None)
