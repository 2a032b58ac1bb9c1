"""Training speed on a GPU: letterwise at several batch sizes, eager and compiled, beside Trainer with peft.

A GPU is fed by a processor that launches its kernels: small batches leave it waiting, so what is shown is how the
rate of tokens rises with the rows of a step. The peer is measured as it comes, with texts of like length together, at
several batch sizes; its other settings are not searched as `training_speed.py` does. The ceiling is the rate of a large
matrix product over four operations a parameter and token. Each variant is a process of its own. Writes
benchmarks/results/training_speed_gpu.json after each of them, so that what was measured is kept where time runs out.

    python benchmarks/training_speed_gpu.py
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
from turns import Variant, VariantError, fresh_caches

from letterwise import hardware
from letterwise.config import ExperimentConfig, TrainingConfig
from letterwise.data.build import build_data
from letterwise.data.word_lists import build_words
from letterwise.data_config import DataConfig, WordsConfig
from letterwise.errors import LetterwiseError
from letterwise.files import write_json
from letterwise.models import load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "training_speed_gpu.json"
STEPS = 60
"""Steps in what is timed; the first ones of a process, which are slower, are not among them."""
TEXT_TOKENS = 22
"""About as many as a text has: how long the peer is timed is chosen by it, its rate is not computed from it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument(
        "--eager-rows", type=int, nargs="*", default=[4, 64], help="packed rows of 128 tokens in a step"
    )
    parser.add_argument("--compiled-rows", type=int, nargs="*", default=[4, 64, 256])
    parser.add_argument("--peer-texts", type=int, nargs="*", default=[64, 1024], help="texts in a step of the peer")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--variant", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        from training_variants import run_variant

        run_variant(options.variant)
        return
    if hardware.choose_device().type != "cuda":
        raise LetterwiseError("There is no NVIDIA GPU; benchmarks/training_speed.py measures the processor.")
    settings = TrainingConfig(row_length=128)
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model, training=settings)
    base = resolve_base(config.base_model)
    found: dict[str, Any] = {
        "environment": describe_environment(config, base).model_dump(),
        "letterwise": [],
        "peer": [],
    }

    def note(kind: str, entry: dict[str, Any]) -> None:
        """What is measured is kept, should the rest not be."""
        found[kind].append(entry)
        write_json(options.output, found)

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = load_tokenizer(base)
        build_words(WordsConfig(), tokenizer, 0, folder / "words")
        build_data(DataConfig(train_examples=40000), tokenizer, 0, folder / "words", folder / "data")
        common = {"base": str(base.folder), "data": str(folder / "data"), "settings": settings.model_dump()}
        ceiling = Variant(Path(__file__), {"stack": "products", **common})
        ceiling.ready()
        found["matrix_product_gflops"] = float(ceiling.ask()["rate"]) / 1e9
        ceiling.stop()
        ours = [(rows, False) for rows in options.eager_rows] + [(rows, True) for rows in options.compiled_rows]
        for rows, compiled in ours:
            note("letterwise", _ours(common, rows, compiled, fresh_caches(folder)))
        for texts in options.peer_texts:
            note("peer", _peer(common, texts))
    print(f"Written to {options.output}")


def _ours(common: dict[str, Any], rows: int, compiled: bool, cache: dict[str, str]) -> dict[str, Any]:
    settings = {**common["settings"], "compile": compiled, "batch_size": rows}
    variant = Variant(Path(__file__), {"stack": "letterwise", **common, "settings": settings}, cache)
    told = {"rows": rows, "compiled": compiled}
    return told | _measured(variant, rows * common["settings"]["row_length"], ("seconds_to_start", "compiled"))


def _peer(common: dict[str, Any], texts: int) -> dict[str, Any]:
    variant = Variant(Path(__file__), {"stack": "trainer", **common, "batch": texts, "by_length": True})
    return {"texts": texts} | _measured(variant, texts * TEXT_TOKENS, ("parameters",))


def _measured(variant: Variant, tokens_in_a_step: int, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Rate and memory of a variant's steady state, or its problem."""
    try:
        started = variant.ready()
        variant.ask(tokens=5 * tokens_in_a_step)
        found = variant.ask(tokens=STEPS * tokens_in_a_step)
        variant.stop()
    except VariantError as error:
        print(f"{variant.spec['stack']}: {error}", flush=True)
        return {"problem": str(error)}
    rate = found["tokens"] / found["seconds"]
    print(f"{variant.spec['stack']}, {tokens_in_a_step} tokens a step: {rate:,.0f} tokens/s", flush=True)
    more = {name: started[name] for name in wanted}
    return {"tokens_per_second": rate, "peak_gpu_gib": found["peak_gpu_gib"], **more}


if __name__ == "__main__":
    main()
