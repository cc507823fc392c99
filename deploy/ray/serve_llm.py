"""Versions that Brogue trained, served by Ray Serve LLM: many adapters on one base model, found in a bucket by name.

In an environment of its own, since Ray pins another vLLM: `pip install "ray[llm]==2.60.0" boto3`. Then, in this folder,

    brogue adapters export shop@3 --to s3://voices/shop-3
    serve run serve_llm:build adapters=s3://voices

answers at http://127.0.0.1:8000/v1 for the model `BASE:shop-3`. The settings are those of ../brogue.toml. What of
Brogue's promises holds there and what does not: docs/deploy.md.
"""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application  # type: ignore[import-not-found]

SETTINGS = Path(__file__).resolve().parent.parent / "brogue.toml"
AS_THEY_ARE = ("max_model_len", "max_loras", "max_cpu_loras", "max_lora_rank", "gpu_memory_utilization", "dtype")


def build(args: dict[str, str]) -> "Application":
    """The application. `adapters`: the folder of folders in a bucket; `base_model`: in the place of brogue.toml's;
    `replicas`: engines.
    """
    from ray.serve.llm import LLMConfig, build_openai_app  # type: ignore[import-not-found]

    settings = tomllib.loads(SETTINGS.read_text(encoding="utf-8"))
    return build_openai_app({"llm_configs": [LLMConfig(**llm_config(settings, **args))]})


def llm_config(settings: dict[str, Any], adapters: str, base_model: str = "", replicas: str = "2") -> dict[str, Any]:
    """What Ray's LLMConfig takes, from the settings of brogue.toml."""
    base_model = base_model or settings["base_model"]
    if base_model == "starter":
        raise SystemExit("wanted base_model=FOLDER: the starter model lies in <home>/models after brogue plan")
    engine = {name: value for name, value in settings["engine"].items() if name in AS_THEY_ARE}
    source = {"bucket_uri": base_model} if base_model.startswith(("s3://", "gs://")) else base_model
    is_hub_id = isinstance(source, str) and not Path(base_model).is_dir()
    return {
        "model_loading_config": {
            "model_id": base_model if is_hub_id else base_model.rstrip("/").rpartition("/")[2],
            "model_source": source,
        },
        "lora_config": {
            "dynamic_lora_loading_path": adapters,
            "max_num_adapters_per_replica": engine["max_cpu_loras"],
        },
        "engine_kwargs": {"enable_lora": True, **engine},
        "deployment_config": {"num_replicas": int(replicas)},
    }
