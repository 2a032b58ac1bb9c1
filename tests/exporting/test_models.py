"""Exported models, each loaded by its own program and asked three questions, answer as the merged model does."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import ctranslate2
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from letterwise import cli
from letterwise.adapters import add_adapter, merge_adapter, save_adapter
from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.exporting.ctranslate2_model import export_ctranslate2
from letterwise.exporting.gguf_model import export_gguf
from letterwise.models import BaseModel, load_model, load_tokenizer, quiet, resolve_base
from letterwise.tasks.questions import count_question, direct_prompt, position_question
from letterwise.tasks.spelling import spelling_prompt

pytestmark = pytest.mark.slow

PROMPTS = [
    spelling_prompt("lantern").text,
    direct_prompt(count_question("lantern", "n")).text,
    direct_prompt(position_question("lantern", 3)).text,
]
CPU = torch.device("cpu")
WRITTEN = 12


def greedy(model: BaseModel, prompt: str) -> list[int]:
    """The tokens that the model itself goes on with."""
    ids = load_tokenizer(model)(prompt, return_tensors="pt")["input_ids"]
    loaded = load_model(model, CPU, torch.float32)
    return loaded.generate(ids, max_new_tokens=WRITTEN, do_sample=False)[0, ids.shape[1] :].tolist()  # type: ignore[no-any-return]


def letterwise(*arguments: str | Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["letterwise", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    return int(exit_.value.code or 0)


@pytest.fixture(scope="module")
def adapter(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes what the model answers."""
    base = resolve_base(str(tiny_llama))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = add_adapter(load_model(base, CPU, torch.float32), LoraSection(rank=4, alpha=8), base)
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weights, std=0.2)
    folder = tmp_path_factory.mktemp("adapter") / "best"
    save_adapter(model, base, folder)
    return folder


@pytest.fixture(scope="module")
def merged(adapter: Path, tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    folder = tmp_path_factory.mktemp("merged") / "merged"
    merge_adapter(resolve_base(str(tiny_llama)), adapter, folder)
    return resolve_base(str(folder))


@pytest.mark.parametrize("tiny_base", ["tiny_gpt2", "tiny_llama"], indirect=True)
def test_ctranslate2_answers_as_the_model_does(tiny_base: BaseModel, tmp_path: Path) -> None:
    export_ctranslate2(tiny_base, tmp_path / "exported", "float32")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported")
    generator = ctranslate2.Generator(str(tmp_path / "exported"))
    tokens = [tokenizer.convert_ids_to_tokens(tokenizer(prompt)["input_ids"]) for prompt in PROMPTS]
    answers = generator.generate_batch(tokens, max_length=WRITTEN, include_prompt_in_result=False)

    assert [answer.sequences_ids[0] for answer in answers] == [greedy(tiny_base, prompt) for prompt in PROMPTS]


def test_ctranslate2_gets_no_gemma_that_it_would_answer_otherwise_for(tiny_gemma: Path, tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="a gemma3_text model, with which CTranslate2 answers differently"):
        export_ctranslate2(resolve_base(str(tiny_gemma)), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("weights", ["f32", "f16", "q8_0"])
def test_gguf_answers_as_the_model_does(merged: BaseModel, tmp_path: Path, weights: str) -> None:
    export_gguf(merged, tmp_path / "exported", weights)  # type: ignore[arg-type]

    with quiet():
        read = AutoModelForCausalLM.from_pretrained(tmp_path / "exported", gguf_file="model.gguf", dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / "exported", gguf_file="model.gguf")
    own, own_tokenizer = load_model(merged, CPU, torch.float32), load_tokenizer(merged)
    for prompt in PROMPTS:
        ids = own_tokenizer(prompt, return_tensors="pt")["input_ids"]
        assert tokenizer(prompt)["input_ids"] == ids[0].tolist()
        expected = own(ids).logits
        tolerance = {"f32": 1e-4, "f16": 1e-2, "q8_0": 0.1}[weights] * expected.abs().max()
        assert (read(ids).logits - expected).abs().max() < tolerance
    if weights == "f32":
        written = read.generate(ids, max_new_tokens=WRITTEN, do_sample=False)[0, ids.shape[1] :].tolist()
        assert written == greedy(merged, PROMPTS[-1])


def test_llama_cpp_answers_as_the_model_does(merged: BaseModel, tmp_path: Path) -> None:
    """By the program that GGUF is for, where it is installed: on PyPI it is source only and compiles for minutes."""
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    export_gguf(merged, tmp_path / "exported", "f32")

    read = llama_cpp.Llama(str(tmp_path / "exported" / "model.gguf"), n_ctx=256, n_threads=1, verbose=False)
    for prompt in PROMPTS:
        ids = read.tokenize(prompt.encode(), add_bos=False, special=True)
        assert ids == load_tokenizer(merged)(prompt)["input_ids"]
        assert list(islice(read.generate(ids, temp=0.0, top_k=1), WRITTEN)) == greedy(merged, prompt)


def test_an_adapter_is_merged_on_the_way(adapter: Path, tiny_llama: Path, merged: BaseModel, tmp_path: Path) -> None:
    base = ("--base-model", tiny_llama)
    assert letterwise("export", "gguf", adapter, tmp_path / "gguf", "--type", "f32", *base) == 0
    assert letterwise("export", "ctranslate2", adapter, tmp_path / "ct2", "--quantization", "float32", *base) == 0

    with quiet():
        read = AutoModelForCausalLM.from_pretrained(tmp_path / "gguf", gguf_file="model.gguf", dtype=torch.float32)
    ids = load_tokenizer(merged)(PROMPTS[0], return_tensors="pt")["input_ids"]
    assert read.generate(ids, max_new_tokens=WRITTEN, do_sample=False)[0, ids.shape[1] :].tolist() == greedy(
        merged, PROMPTS[0]
    )
    assert greedy(merged, PROMPTS[0]) != greedy(resolve_base(str(tiny_llama)), PROMPTS[0])
    assert ctranslate2.Generator(str(tmp_path / "ct2")).compute_type.startswith("float32")


def test_a_modelfile_holds_the_prompt_of_the_evaluation(merged: BaseModel, tmp_path: Path) -> None:
    export_gguf(merged, tmp_path / "exported")

    def rendered(name: str, asked: str) -> str:
        text = (tmp_path / "exported" / name).read_text(encoding="utf-8")
        assert text.startswith("FROM ./model.gguf\n")
        return text.split('"""')[1].replace("{{ .Prompt }}", asked)

    assert rendered("Modelfile", "lantern") == PROMPTS[0]
    assert rendered("Modelfile.letter_count", count_question("lantern", "n").question) == PROMPTS[1]
    assert rendered("Modelfile.letter_position", position_question("lantern", 3).question) == PROMPTS[2]


def test_another_architecture_is_no_gguf(tiny_gpt2: Path, tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"gpt2 model.*convert_hf_to_gguf\.py"):
        export_gguf(resolve_base(str(tiny_gpt2)), tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_a_number_type_that_ctranslate2_does_not_have_is_refused(merged: BaseModel, tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match="CTranslate2 cannot convert"):
        export_ctranslate2(merged, tmp_path / "exported", "int3")  # type: ignore[arg-type]
    assert not (tmp_path / "exported").exists()
