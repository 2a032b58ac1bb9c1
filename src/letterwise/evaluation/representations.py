"""What a model makes of single tokens: its input embedding, and what each layer gives, on disk place by place.

Knows any causal language model of transformers, with an adapter or without; knows nothing about what is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.files import explained_write_errors, make_folder
from letterwise.probe_results import EMBEDDING

TOKENS_AT_A_TIME = 256


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that a text begins with; where the tokenizer has none, the one that ends a text."""
    known = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    return int(next(token for token in known if token is not None))


@torch.inference_mode()
def write_representations(
    model: PreTrainedModel | PeftModel,
    prefix: int,
    token_ids: Sequence[int] | NDArray[np.int64],
    folder: Path,
    on_tokens: Callable[[int], None],
) -> dict[str, Path]:
    """Run every token behind the prefix token and write what each place holds at the token itself.

    One file of float32 numbers for each place, so that not more than one place need be in memory: of 30 layers of
    width 576, 47,000 tokens take 3.4 GB on disk.

    Args:
        model: in evaluation mode.
        prefix: a token to stand before each, as most models read their first token unlike all others.
        token_ids: shape (tokens,).
        folder: where the files go.
        on_tokens: called with the number of tokens just finished.

    Returns:
        The file of each place, from 'embedding' to the last layer; read it with `read_representations`.

    Raises:
        LetterwiseError: the disk is full or the folder not ours.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    body = inner.base_model  # without the output head, which nobody asks
    device = next(model.parameters()).device
    make_folder(folder)
    paths: dict[str, Path] = {}
    with explained_write_errors(folder), ExitStack() as stack:
        files: list[BinaryIO] = []
        for start in range(0, len(token_ids), TOKENS_AT_A_TIME):
            batch = torch.as_tensor(token_ids[start : start + TOKENS_AT_A_TIME])
            rows = torch.stack([torch.full_like(batch, prefix), batch], dim=1).to(device)
            layers = body(input_ids=rows, use_cache=False, output_hidden_states=True).hidden_states[1:]
            # What a model adds to its embedding before the first layer, as GPT-2 does positions, is not the token's.
            places: list[Tensor] = [inner.get_input_embeddings()(rows), *layers]
            if not files:
                names = [EMBEDDING, *(f"layer_{number}" for number in range(1, len(places)))]
                paths = {name: folder / f"{name}.bin" for name in names}
                files = [stack.enter_context(path.open("wb")) for path in paths.values()]
            for file, hidden in zip(files, places, strict=True):
                file.write(hidden[:, 1].float().cpu().numpy().tobytes())
            on_tokens(len(batch))
    return paths


def read_representations(path: Path, tokens: int) -> NDArray[np.float32]:
    """One place, shape (tokens, width)."""
    return np.fromfile(path, dtype=np.float32).reshape(tokens, -1)
