"""Ways to run the model on this processor, side by side: a scored answer alone and in a batch, and spelled words.

Every engine has the same weights (the embedded model), the same prompts of mode direct and the same two cores, and its
best settings: what it can keep of the examples that all prompts share, it keeps. They take turns, so that a change of
the machine's speed meets them all. Each also answers 500 questions, which are compared with the answers of PyTorch in
float32. Writes benchmarks/results/engines.json.

    pip install '.[bench]'
    python benchmarks/engines.py
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from support.engines import ENGINES, Asked, EngineUnderTest

from letterwise.config import ExperimentConfig
from letterwise.data_config import WordsConfig
from letterwise.evaluation.statistics import wilson_interval
from letterwise.files import write_json
from letterwise.models import load_model, load_tokenizer, resolve_base
from letterwise.reporting.console import Terminal
from letterwise.run_environment import describe_environment
from letterwise.tasks.questions import direct_prompt, make_questions
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "engines.json"
REFERENCE = "PyTorch float32, one full text at a time"
BATCH = 32
PACKAGES = ("torch", "transformers", "openvino", "nncf", "ctranslate2", "onnxruntime", "llama-cpp-python")


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def once(engine: EngineUnderTest, asked: Asked, words: Sequence[str], first: int) -> dict[str, float]:
    """Milliseconds for one answer or spelling, alone and in a batch."""
    alone, batch, new = asked.slice(first, first + 1), asked.slice(first, first + BATCH), words[first : first + BATCH]
    return {
        "alone": timed(lambda: engine.score(alone)),
        "batch": timed(lambda: engine.score(batch)) / BATCH,
        "spell_alone": timed(lambda: engine.spell(new[:1])),
        "spell_batch": timed(lambda: engine.spell(new)) / BATCH,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--turns", type=int, default=7, help="how often each engine is timed")
    parser.add_argument("--questions", type=int, default=500, help="on which answers are compared")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    terminal = Terminal()

    base = resolve_base("embedded")
    tokenizer = load_tokenizer(base)
    settings = WordsConfig()
    words = dictionary_words(settings.min_letters, settings.max_letters, settings.min_zipf)
    random.Random(0).shuffle(words)
    half = options.questions // 2
    questions = make_questions(words[:4000], half, options.questions - half, 0, "engines")
    asked = Asked.of([direct_prompt(question) for question in questions], questions, tokenizer)
    reference = asked.read(full_texts(load_model(base, torch.device("cpu"), torch.float32), asked))

    engines: dict[str, EngineUnderTest] = {}
    started: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.engines:
            terminal.say(f"Preparing {name}.")
            began = time.perf_counter()
            engines[name] = ENGINES[name](base, tokenizer, Path(scratch))
            engines[name].score(asked.slice(0, BATCH))  # so that everything has been done once
            engines[name].score(asked.slice(0, 1))
            engines[name].spell(words[-1:])
            started[name] = time.perf_counter() - began
        times: dict[str, dict[str, list[float]]] = {
            name: {"alone": [], "batch": [], "spell_alone": [], "spell_batch": []} for name in engines
        }
        with terminal.track("timing", options.turns * len(engines)) as advance:
            for turn in range(options.turns):
                for name, engine in engines.items():
                    for what, milliseconds in once(engine, asked, words, turn * BATCH).items():
                        times[name][what].append(milliseconds)
                    advance(1, name)
        rows = []
        for name, engine in engines.items():
            same = sum(one == other for one, other in zip(asked.read(engine.score(asked)), reference, strict=True))
            rows.append(
                {
                    "engine": name,
                    "ready_s": round(started[name], 1),
                    "answer_alone_ms": round(median(times[name]["alone"]), 1),
                    f"answer_of_{BATCH}_ms": round(median(times[name]["batch"]), 2),
                    "spelling_alone_ms": round(median(times[name]["spell_alone"]), 1),
                    f"spelling_of_{BATCH}_ms": round(median(times[name]["spell_batch"]), 2),
                    "agrees": same,
                    "of": len(questions),
                    "interval": list(wilson_interval(same, len(questions))),
                }
            )
            terminal.say(str(rows[-1]))
    environment = describe_environment(ExperimentConfig(run_name="benchmark"), base).model_dump()
    environment["packages"] |= {name: version(name) for name in PACKAGES if name_installed(name)}
    write_json(
        options.output,
        {
            "date": datetime.now(UTC).date().isoformat(),
            "environment": environment,
            "reference": REFERENCE,
            "turns": options.turns,
            "rows": rows,
        },
    )
    terminal.say(f"Written to {options.output}.")


def name_installed(name: str) -> bool:
    try:
        return bool(version(name))
    except ModuleNotFoundError:
        return False


@torch.inference_mode()
def full_texts(model: Any, asked: Asked) -> list[list[float]]:
    """Logits of the candidates, by one forward pass over each whole text."""
    found = []
    for ids, candidates in zip(asked.texts, asked.candidates, strict=True):
        logits = model(torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1]
        found.append(logits[candidates].tolist())
    return found


if __name__ == "__main__":
    main()
