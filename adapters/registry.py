"""Which adapters and versions exist, which version each alias means, and how it came to be so.

A version is an immutable folder `<home>/adapters/<name>/<n>/` with PEFT weights and `card.json`. What changes lies
beside it in one file, `aliases.json`: aliases, the canary's share, retired versions, the history of moves. It is
replaced in one rename under a lock, so a kill leaves the old state or the new one. The first version of an adapter
becomes its `stable`. A version's latest verdict lies beside its folder too: whoever moves an alias is held to it.
Pure files: no torch, no network, unless the home is one of several (`data/sharing.py`): then what is written goes to
the others first. Training writes here; the gateway reads and moves aliases.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from adapters.registry_files import CARD as CARD
from adapters.registry_files import RegistryFiles, stamp
from adapters.registry_files import file_hashes as file_hashes
from adapters.registry_state import AdapterCard as AdapterCard
from adapters.registry_state import AdapterState as AdapterState
from adapters.registry_state import CanaryPlan as CanaryPlan
from adapters.registry_state import Mark as Mark
from adapters.registry_state import Move as Move
from adapters.registry_state import Served as Served
from adapters.registry_state import Verdict as Verdict
from adapters.registry_state import moved
from adapters.registry_state import refuse_scorer as refuse_scorer
from adapters.registry_state import require_classifier as require_classifier
from adapters.registry_state import require_scorer as require_scorer
from data.errors import BrogueError, UnknownName, one_line, unknown
from data.home import NAME_PATTERN, Home, check_name, staged_folder
from data.sharing import Publish

STATE = "aliases.json"
RECORDS = "records.json"  # `<n>.records.json` lies beside the version's folder; see adapters/lineage.py
VERDICT = "verdict.json"  # so does `<n>.verdict.json`: what lies inside the folder may be in an engine already
ALIASES = ("stable", "candidate", "canary")


class Registry:
    """The adapters of one home folder."""

    def __init__(self, home: Home) -> None:
        self._root = home.adapters
        self._files = RegistryFiles(home)

    def adapters(self) -> list[str]:
        """Names of all adapters that have a version."""
        names = {path.parent.parent.name for path in self._root.glob(f"*/[1-9]*/{CARD}")}
        return sorted(name for name in names if self.versions(name))

    def versions(self, adapter: str) -> list[int]:
        """Version numbers of `adapter` that are not retired, ascending; empty if there is none."""
        on_disk = self._on_disk(adapter)
        retired = self.state(adapter).retired if on_disk else ()
        return [n for n in on_disk if n not in retired]

    def folder(self, adapter: str, version: int) -> Path:
        return self._root / adapter / str(version)

    def records_file(self, adapter: str, version: int) -> Path:
        """Where the records are listed that a version was trained on; beside its folder, which holds weights only."""
        return self._root / adapter / f"{version}.{RECORDS}"

    def version_files(self, adapter: str, version: int) -> dict[str, Path | None]:
        """A version's files by their paths below the home, the card last."""
        folder = self.folder(adapter, version)
        return self._files.of_version(folder, folder)

    def card(self, adapter: str, version: int) -> AdapterCard:
        """The card of a version, or an error that names the versions there are."""
        if version in self._retired(adapter):
            raise UnknownName(f"{adapter}@{version} was retired; see: brogue adapters list")
        path = self.folder(adapter, version) / CARD
        if version not in self._on_disk(adapter):
            self._require(adapter)
            known = [f"{adapter}@{n}" for n in self.versions(adapter)]
            raise unknown("version", f"{adapter}@{version}", known, "See: brogue adapters list")
        try:
            return AdapterCard.model_validate_json(path.read_text(encoding="utf-8"))
        except (ValidationError, UnicodeDecodeError) as error:
            raise BrogueError(
                f"{path}: not an adapter card ({one_line(error, 160)}); train or import the version again"
            ) from error

    def verdict(self, adapter: str, version: int) -> Verdict | None:
        """What the gate said of a version after its latest exam; none if it has not been examined."""
        path = self._verdict_file(adapter, version)
        try:
            return Verdict.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (ValidationError, UnicodeDecodeError) as error:
            raise BrogueError(
                f"{path}: not a verdict ({one_line(error, 120)}); remove it, or examine the version again: "
                f"brogue exam {adapter}@{version}"
            ) from error

    def keep_verdict(self, adapter: str, version: int, verdict: Verdict) -> None:
        """Store what the gate said of a version, in the place of what it said before."""
        self.card(adapter, version)
        with self._files.locked(adapter, STATE) as publish:
            self._files.put(publish, self._verdict_file(adapter, version), verdict.model_dump(mode="json"))

    def keep_records(self, adapter: str, version: int, source: Path) -> None:
        """Move the list of the records that a version was trained on to its place. FileNotFoundError if it is gone."""
        path = self.records_file(adapter, version)
        with self._files.locked(adapter, STATE) as publish:
            publish({self._files.relative(path): source}, lambda: source.replace(path))

    def refuse_failed(self, adapter: str, alias: str, version: int, force: bool = False) -> str:
        """What it goes against to let `alias` mean a version, in words; empty if it may be.

        Raises `BrogueError` for a version that failed its exam, unless it is forced.
        """
        verdict = None if alias == "candidate" else self.verdict(adapter, version)  # a candidate is shown to nobody
        if verdict is None or verdict.result != "fail":
            return ""
        if not force:
            raise BrogueError(f"{adapter}@{version} {verdict.words}; to use it all the same, add --force")
        return verdict.words

    def chats(self, adapter: str, version: int) -> bool:
        """Can it be talked to? Of a version with a broken card it is told when it is asked."""
        try:
            return self.card(adapter, version).chats
        except BrogueError:
            return True

    def state(self, adapter: str) -> AdapterState:
        """Aliases, canary, retired versions and history of `adapter`; empty if it has none."""
        path = self._root / adapter / STATE
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            # The first homes had only alias → version in this file.
            return AdapterState.model_validate(raw if "aliases" in raw else {"aliases": raw})
        except FileNotFoundError:
            return AdapterState()
        except (ValueError, TypeError) as error:  # pydantic's and json's errors are ValueErrors
            raise BrogueError(f"{path}: not an adapter's state ({one_line(error, 160)}); mend or remove it") from error

    def states(self) -> dict[str, AdapterState]:
        """The state of every adapter."""
        return {adapter: self.state(adapter) for adapter in self.adapters()}

    def signature(self) -> object:
        """Differs whenever the states or the set of versions on disk do; cheap enough to ask every second."""
        names = sorted(p.name for p in self._root.iterdir() if p.is_dir()) if self._root.exists() else []
        return tuple((name, stamp(self._root / name / STATE), *self._on_disk(name)) for name in names)

    def aliases(self, adapter: str) -> dict[str, int]:
        """alias → version of `adapter`."""
        return self.state(adapter).aliases

    def resolve(self, reference: str) -> AdapterCard:
        """The card meant by `name` (its stable version), `name@alias` or `name@n`."""
        adapter, _, which = reference.partition("@")
        if which.isdecimal():
            return self.card(adapter, int(which))
        self._require(adapter)
        aliases = self.aliases(adapter)
        alias = which or "stable"
        if alias not in aliases:
            known = [*aliases, *map(str, self.versions(adapter))]
            raise unknown("alias or version", reference, [f"{adapter}@{k}" for k in known], "See: brogue adapters list")
        return self.card(adapter, aliases[alias])

    def previous(self, adapter: str) -> int | None:
        """The version that was stable before the present one and still exists: where a roll back goes."""
        state = self.state(adapter)
        there = set(self._on_disk(adapter)) - {*state.retired, state.aliases.get("stable")}
        return next((m.before for m in reversed(state.history) if m.alias == "stable" and m.before in there), None)

    def move(self, adapter: str, alias: str, version: int | None, who: str = "", why: str = "",
             canary: CanaryPlan | None = None, force: bool = False) -> AdapterState:  # fmt: skip
        """Let `alias` mean `version` from now on (None: remove it) and write down who did it when and why.

        A version that becomes stable is canary or candidate no longer. What is so already is not written again.
        A version that failed its exam becomes stable or canary only by `force`, which is written down too.
        """
        if alias not in ALIASES:
            raise UnknownName(f"no alias '{alias}'; have: {', '.join(ALIASES)}")
        if alias == "stable" and version is None:
            raise BrogueError(f"stable of '{adapter}' cannot be removed; promote another version or roll back")
        if not self.versions(adapter):
            self._files.refresh()  # another home may have it
        self._require(adapter)
        with self._files.locked(adapter, STATE) as publish:
            state = self.state(adapter)
            if version is not None:
                refuse_scorer(self.card(adapter, version))
                if alias != "stable" and version == state.aliases.get("stable"):
                    raise BrogueError(f"{adapter}@{version} is stable already; {alias} wants another version")
            plan = (canary or state.canary or CanaryPlan()) if alias == "canary" and version is not None else None
            if state.aliases.get(alias) == version and (alias != "canary" or state.canary == plan):
                return state
            against = "" if version is None else self.refuse_failed(adapter, alias, version, force)
            return self._write(publish, adapter, moved(state, alias, version, who, why, plan, against))

    def retire(self, adapter: str, version: int) -> None:
        """Hide a version for ever. Its folder stays until no engine that may know it runs (`purge_retired`)."""
        self.card(adapter, version)
        with self._files.locked(adapter, STATE) as publish:
            state = self.state(adapter)
            if held := [alias for alias, n in state.aliases.items() if n == version]:
                way_out = "promote another version first" if "stable" in held else f"remove its alias {held[0]} first"
                raise BrogueError(f"{adapter}@{version} is {' and '.join(held)}, so it cannot be retired; {way_out}")
            self._write(publish, adapter, state.model_copy(update={"retired": (*state.retired, version)}))

    def mark(self, adapter: str, mark: Mark) -> None:
        """Mark a version; what it is marked with already is not written again."""
        with self._files.locked(adapter, STATE) as publish:
            state = self.state(adapter)
            if (mark.what, mark.of) not in {(known.what, known.of) for known in state.marks_of(mark.version)}:
                self._write(publish, adapter, state.model_copy(update={"marks": (*state.marks, mark)}))

    def purge_retired(self) -> list[str]:
        """Delete the folders of retired versions; only while no engine runs: one that knew them would die of it."""
        purged = []
        for path in sorted(self._root.glob(f"*/{STATE}")):
            adapter = path.parent.name
            for version in self.state(adapter).retired:
                if self.folder(adapter, version).exists():
                    shutil.rmtree(self.folder(adapter, version))
                    self.records_file(adapter, version).unlink(missing_ok=True)
                    self._verdict_file(adapter, version).unlink(missing_ok=True)
                    purged.append(f"{adapter}@{version}")
        return purged

    @contextmanager
    def new_version(self, adapter: str, stable: bool = True) -> Iterator[tuple[int, Path]]:
        """(number, empty folder) of the next version; it exists for others only if the block succeeds.

        An adapter's first version becomes stable, unless it is not to: what cannot chat, or is only tried out.
        """
        check_name("an adapter", adapter)
        with self._files.locked(adapter, "versions") as publish:
            # A number is never used twice, also when its version was retired and its folder is gone.
            version = max([*self._on_disk(adapter), *self._retired(adapter)], default=0) + 1
            target = self.folder(adapter, version)
            with staged_folder(target) as folder:
                yield version, folder
                publish(self._files.of_version(folder, target), lambda: folder.rename(target))
            if stable and "stable" not in self.aliases(adapter):
                self.move(adapter, "stable", version, who="brogue", why="the first version")

    def _verdict_file(self, adapter: str, version: int) -> Path:
        return self._root / adapter / f"{version}.{VERDICT}"

    def _on_disk(self, adapter: str) -> list[int]:
        if not re.match(NAME_PATTERN, adapter):  # it comes from a client: no path that leads out of the home
            return []
        cards = (self._root / adapter).glob(f"[1-9]*/{CARD}")
        return sorted(int(p.parent.name) for p in cards if p.parent.name.isdecimal())

    def _retired(self, adapter: str) -> tuple[int, ...]:
        return self.state(adapter).retired if re.match(NAME_PATTERN, adapter) else ()

    def _write(self, publish: Publish, adapter: str, state: AdapterState) -> AdapterState:
        self._files.put(publish, self._root / adapter / STATE, state.model_dump(mode="json"))
        return state

    def _require(self, adapter: str) -> None:
        if not self.versions(adapter):
            raise unknown("adapter", adapter, self.adapters(), f"Train one: brogue train {adapter} --data NAME")
