"""A merged model as GGUF, for llama.cpp and what is built on it (Ollama, LM Studio), with Modelfiles.

Knows Llama's architecture and byte-level BPE tokenizers, which the embedded model has; refuses others. Knows nothing
about adapters.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, write_text
from letterwise.licences import copy_terms
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.tasks.questions import count_question, direct_prompt, position_question
from letterwise.tasks.spelling import spelling_prompt

Weights = Literal["f32", "f16", "q8_0"]

MODEL_FILE = "model.gguf"
_TYPES: dict[Weights, tuple[Any, Any]] = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_ELSEWHERE = "llama.cpp's convert_hf_to_gguf.py converts the merged folder of many more"


def export_gguf(model: BaseModel, folder: Path, weights: Weights = "f16") -> None:
    """Write ``model.gguf`` and a Modelfile for each task.

    Args:
        model: the merged model.
        folder: replaced as a whole.
        weights: number type of the matrices; vectors stay float32.

    Raises:
        LetterwiseError: another architecture or tokenizer, or the folder cannot be written.
    """
    loaded, tokenizer = load_model(model, torch.device("cpu"), torch.float32), load_tokenizer(model)
    if loaded.config.model_type != "llama":
        raise LetterwiseError(
            f"{model.id} is a {loaded.config.model_type} model, and only Llama's architecture is exported to GGUF; "
            f"{_ELSEWHERE}."
        )
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        writer = gguf.GGUFWriter(temporary / MODEL_FILE, "llama")
        _add_architecture(writer, model, loaded, weights)
        _add_tokenizer(writer, model, tokenizer, loaded.config.vocab_size)
        _add_tensors(writer, loaded, weights)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        for name, template in _templates().items():
            write_text(temporary / name, _modelfile(template))
        copy_terms(model.folder, temporary)


def _add_architecture(writer: Any, model: BaseModel, loaded: PreTrainedModel, weights: Weights) -> None:
    config = loaded.config
    writer.add_name(Path(model.id).name)
    writer.add_description("A model trained to spell with letterwise, adapter and base merged")
    writer.add_file_type(_TYPES[weights][1])
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: Any, model: BaseModel, tokenizer: PreTrainedTokenizerBase, size: int) -> None:
    description = json.loads(tokenizer.backend_tokenizer.to_str())
    if description["model"]["type"] != "BPE":
        raise LetterwiseError(f"The tokenizer of {model.id} is no byte-level BPE; {_ELSEWHERE}.")
    added = {token["id"]: token for token in description["added_tokens"]}
    names = {index: name for name, index in description["model"]["vocab"].items()}
    names |= {index: token["content"] for index, token in added.items()}
    tokens = [names.get(index, f"[PAD{index}]") for index in range(size)]
    normal, control, own, unused = (
        getattr(gguf.TokenType, name) for name in ("NORMAL", "CONTROL", "USER_DEFINED", "UNUSED")
    )
    types = [
        (control if added[index]["special"] else own) if index in added else (normal if index in names else unused)
        for index in range(size)
    ]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in description["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(model, description["pre_tokenizer"]))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if index is not None:
            add(index)
    writer.add_add_bos_token(False)


def _pre_tokenizer(model: BaseModel, description: dict[str, Any] | None) -> str:
    """llama.cpp's name for how text is cut before BPE."""
    parts = (description or {}).get("pretokenizers", [description])
    kinds = [(part or {}).get("type") for part in parts]
    if kinds == ["ByteLevel"]:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0]["individual_digits"]:
        return "smollm"
    raise LetterwiseError(f"The tokenizer of {model.id} cuts text in a way that is not known here; {_ELSEWHERE}.")


def _add_tensors(writer: Any, loaded: PreTrainedModel, weights: Weights) -> None:
    config = loaded.config
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in loaded.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values: NDArray[np.float32] = tensor.numpy()
        if name.endswith("q_proj.weight"):
            values = _interleaved(values, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            values = _interleaved(values, config.num_key_value_heads)
        kind = _TYPES[weights][0] if values.ndim > 1 else gguf.GGMLQuantizationType.F32
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(target, gguf.quantize(values, kind), raw_dtype=kind)


def _interleaved(values: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Rows in the order of llama.cpp's rotary embedding, which turns neighbours, where transformers turns halves."""
    rows, columns = values.shape
    return values.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _templates() -> dict[str, str]:
    """Modelfile → prompt, with the place that the user's text takes; the examples are those of the evaluation."""
    count, position = count_question("word", "w"), position_question("word", 1)
    place = "{{ .Prompt }}"
    return {
        "Modelfile": spelling_prompt("@").text.replace("Word: @", f"Word: {place}"),
        "Modelfile.letter_count": direct_prompt(count).text.replace(count.question, place),
        "Modelfile.letter_position": direct_prompt(position).text.replace(position.question, place),
    }


def _modelfile(template: str) -> str:
    return (
        f'FROM ./{MODEL_FILE}\nTEMPLATE """{template}"""\nPARAMETER temperature 0\nPARAMETER num_predict 48\n'
        'PARAMETER stop "\\n"\n'
    )
