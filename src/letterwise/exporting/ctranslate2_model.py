"""A merged model for CTranslate2, with its tokenizer beside it.

Knows CTranslate2's converter; knows nothing about adapters or what the model is asked.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from ctranslate2.converters import TransformersConverter

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, read_json, write_json
from letterwise.licences import copy_terms
from letterwise.models import BaseModel, first_line, load_tokenizer, quiet

Quantization = Literal["int8", "float16", "bfloat16", "float32"]


def export_ctranslate2(model: BaseModel, folder: Path, quantization: Quantization = "int8") -> None:
    """Convert a stand-alone model of transformers.

    Args:
        model: the merged model.
        folder: replaced as a whole.
        quantization: number type of the weights; `float32` answers as the model itself does.

    Raises:
        LetterwiseError: CTranslate2 does not know the architecture or answers differently with it, or the folder cannot
            be written.
    """
    architecture = str(read_json(model.folder / "config.json").get("model_type"))
    if architecture.startswith("gemma3"):
        # Seen with CTranslate2 4.8: a small Gemma 3 goes on with other tokens than in transformers.
        raise LetterwiseError(
            f"{model.id} is a {architecture} model, with which CTranslate2 answers differently; serve it with "
            "`letterwise serve`."
        )
    with atomic_path(folder) as temporary:
        try:
            with quiet():
                TransformersConverter(str(model.folder)).convert(str(temporary), quantization=quantization)
        except (ValueError, KeyError, NotImplementedError, AttributeError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            raise LetterwiseError(f"CTranslate2 cannot convert {model.id}: {first_line(error)}") from error
        tokenizer = load_tokenizer(model)
        with quiet():
            tokenizer.save_pretrained(temporary)
        copy_terms(model.folder, temporary)
        # Where a tokenizer has no such token, CTranslate2 refuses to load what its converter wrote.
        config = read_json(temporary / "config.json")
        write_json(temporary / "config.json", {**config, "unk_token": config["unk_token"] or tokenizer.eos_token})
