"""deploy/ray and deploy/training: what Ray Serve is given, and trainings on several GPUs or a rented one."""

import importlib.util
import re
import subprocess
import tomllib
from types import ModuleType

import pytest
import yaml

from adapters import processes
from tests.deploying import DEPLOY, settings

SETTINGS = tomllib.loads((DEPLOY / "brogue.toml").read_text(encoding="utf-8"))
SKY = yaml.safe_load((DEPLOY / "training/sky.yaml").read_text(encoding="utf-8"))


@pytest.fixture
def ray_example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve_llm", DEPLOY / "ray/serve_llm.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("base_model", "name", "source"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("s3://models/my-model", "my-model", {"bucket_uri": "s3://models/my-model"}),
        (str(DEPLOY), "deploy", str(DEPLOY)),  # a folder
    ],
)
def test_ray_gets_the_engine_of_the_settings(
    ray_example: ModuleType, base_model: str, name: str, source: object
) -> None:
    config = ray_example.llm_config(SETTINGS, adapters="s3://voices", base_model=base_model)
    assert config["model_loading_config"] == {"model_id": name, "model_source": source}
    given = settings().engine
    assert config["engine_kwargs"] == {
        "enable_lora": True, "max_model_len": given.max_model_len, "max_loras": given.max_loras,
        "max_cpu_loras": given.max_cpu_loras, "max_lora_rank": given.max_lora_rank,
    }  # fmt: skip
    assert config["lora_config"] == {
        "dynamic_lora_loading_path": "s3://voices", "max_num_adapters_per_replica": given.max_cpu_loras,
    }  # fmt: skip


def test_ray_is_not_given_the_starter_model_which_it_cannot_find(ray_example: ModuleType) -> None:
    with pytest.raises(SystemExit, match="base_model=FOLDER"):
        ray_example.llm_config(SETTINGS, adapters="s3://voices")


def test_rays_own_class_takes_it(ray_example: ModuleType) -> None:
    """Only where Ray is installed, which is not here: it pins another vLLM."""
    ray = pytest.importorskip("ray.serve.llm")
    ray.LLMConfig(**ray_example.llm_config(SETTINGS, adapters="s3://voices", base_model="Qwen/Qwen3-8B"))


def test_accelerate_takes_its_configuration_and_so_does_brogue_train(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.config.config_args import load_config_from_file  # type: ignore[import-untyped]

    config = load_config_from_file(str(DEPLOY / "training/accelerate.yaml"))  # raises for a key that it does not know
    assert config.distributed_type == "MULTI_GPU" and not config.fsdp_config and not config.deepspeed_config
    monkeypatch.setenv("WORLD_SIZE", str(config.num_processes))
    processes.check("sft", head=False, batch_size=8)


def test_the_rented_machine_runs_shell_that_is_shell_and_knows_its_variables() -> None:
    for part in ("setup", "run"):
        done = subprocess.run(["bash", "-n"], input=SKY[part], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    used = set(re.findall(r"\$\{?([A-Z_]{2,})", SKY["run"]))
    assert used <= {*SKY["envs"], "HOME", "PWD", "PATH", "BROGUE_HOME", "SKYPILOT_NUM_GPUS_PER_NODE"}
    assert SKY["secrets"] == {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}


def test_skypilots_own_class_takes_it() -> None:
    """Only where SkyPilot is installed."""
    sky = pytest.importorskip("sky")
    sky.Task.from_yaml_config(SKY | {"secrets": dict.fromkeys(SKY["secrets"], "x")})
