"""The command `brogue`: checks that nothing hides our packages, runs the commands, turns our errors into one line."""

import importlib.util
import signal
import sys
from pathlib import Path

OUR_PACKAGES = ("data", "adapters", "serve")


def hidden_package() -> str | None:
    """One line if another installed package has taken the name of one of ours (AdapterHub's `adapters` does)."""
    root = Path(__file__).resolve().parent.parent
    for name in OUR_PACKAGES:
        spec = importlib.util.find_spec(name)
        places = [Path(p).resolve() for p in (spec.submodule_search_locations or [])] if spec else []
        if root / name not in places[:1]:
            found = places[0] if places else "nothing"
            return f"another package called '{name}' ({found}) hides ours; use a fresh venv: make setup"
    return None


def main() -> None:
    """Run `brogue`. Exit code 0: done; 1: refused, with one line on stderr; 2: wrong usage; 130: Ctrl-C."""
    if (problem := hidden_package()) is not None:
        sys.exit(f"brogue: {problem}")
    from assistant.cli_app import app
    from data.errors import BrogueError
    from data.home import full_disk

    # SIGTERM ends a command as Ctrl-C does: through its clean-up.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        app(prog_name="brogue")
    except BrogueError as error:
        sys.exit(f"brogue: {error}")
    except KeyboardInterrupt:
        print("brogue: stopped", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if (problem := full_disk(error)) is None:
            raise
        sys.exit(f"brogue: {problem}")


if __name__ == "__main__":
    main()
