"""The exported tasks in EleutherAI's lm-evaluation-harness beside our own evaluation: same model and questions.

Both score in float32 on the processor. Compares accuracy and every single answer, and says of each that differs how far
apart the two best candidates were. Writes benchmarks/results/harness_agreement.json.

    python benchmarks/harness_agreement.py --data results/quick/data --adapter checkpoints/quick/finetuned/best
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: the model and the questions are here
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import lm_eval
import torch
from lm_eval.tasks import TaskManager

from letterwise.adapters import merge_adapter
from letterwise.config import ExperimentConfig
from letterwise.data.build import build_data, load_data, load_questions
from letterwise.data.word_lists import build_words
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.exporting.lm_eval_tasks import export_lm_eval, task_name
from letterwise.files import write_json
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.results import QUESTION_TYPES
from letterwise.run_environment import describe_environment
from letterwise.tasks.questions import Question, direct_prompt

RESULTS = Path(__file__).parent / "results" / "harness_agreement.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="of a run, such as results/quick/data; built anew by default")
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--adapter", type=Path, help="merged first; without one the base model is asked")
    parser.add_argument("--questions", type=int, default=250, help="of each type")
    options = parser.parse_args()

    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model)
    base = resolve_base(config.base_model)
    with tempfile.TemporaryDirectory() as scratch:
        data = options.data or build(config, base, Path(scratch))
        asked = load_questions(load_data(data)[1]["test"])
        questions = [
            question
            for kind in QUESTION_TYPES
            for question in [q for q in asked if q.question_type == kind][: options.questions]
        ]
        model = base
        if options.adapter:
            merge_adapter(base, options.adapter, Path(scratch) / "merged")
            model = resolve_base(str(Path(scratch) / "merged"))
        compared = compare(model, questions, Path(scratch) / "tasks")
    environment = describe_environment(config, base).model_dump(mode="json") | {"dtype": "float32", "device": "cpu"}
    write_json(
        RESULTS,
        {
            "adapter": os.path.relpath(options.adapter) if options.adapter else None,
            **compared,
            "environment": environment,
        }
        | {"lm_eval": lm_eval.__version__},
    )
    for kind, figures in compared["tasks"].items():
        print(
            f"{kind}: ours {figures['ours']:.4f}, harness {figures['harness']:.4f}, n = {figures['n']}, "
            f"{len(figures['differing'])} answers differ"
        )
    print(f"Written to {RESULTS}")


def build(config: ExperimentConfig, base: BaseModel, folder: Path) -> Path:
    """Held-out words and questions of a default run."""
    tokenizer = load_tokenizer(base)
    build_words(config.words, tokenizer, config.seed, folder / "words")
    build_data(config.data, tokenizer, config.seed, folder / "words", folder / "data")
    return folder / "data"


def compare(model: BaseModel, questions: Sequence[Question], tasks: Path) -> dict[str, Any]:
    """Accuracy of both on the same questions, seconds that each took, and the answers that differ."""
    started = time.perf_counter()
    engine = TransformersEngine(load_model(model, torch.device("cpu"), torch.float32), load_tokenizer(model))
    scores = engine.score([direct_prompt(q) for q in questions], [q.candidates() for q in questions])
    ours_seconds = time.perf_counter() - started

    names = export_lm_eval(questions, tasks)
    started = time.perf_counter()
    harness = lm_eval.simple_evaluate(
        model="hf",
        model_args={"pretrained": str(model.folder), "dtype": "float32"},
        tasks=names,
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=32,
        log_samples=True,
        bootstrap_iters=0,
    )
    harness_seconds = time.perf_counter() - started

    figures = {}
    for kind in QUESTION_TYPES:
        mine = {q.id: (q, score) for q, score in zip(questions, scores, strict=True) if q.question_type == kind}
        if not mine:
            continue
        samples = harness["samples"][task_name(kind)]
        theirs = {sample["doc"]["id"]: [float(log) for log, _ in sample["filtered_resps"]] for sample in samples}
        assert theirs.keys() == mine.keys(), "the harness was asked other questions"
        right = [best(q, score) == q.answer for q, score in mine.values()]
        figures[kind] = {
            "n": len(mine),
            "ours": sum(right) / len(right),
            "harness": harness["results"][task_name(kind)]["acc,none"],
            "differing": [
                {
                    **{"id": q.id, "question": q.question, "answer": q.answer},
                    **{"ours": best(q, score), "harness": best(q, theirs[q.id])},
                    "our_two_best": sorted(score)[-2:],
                }
                for q, score in mine.values()
                if best(q, score) != best(q, theirs[q.id])
            ],
        }
    return {"model": model.id, "tasks": figures, "seconds": {"ours": ours_seconds, "harness": harness_seconds}}


def best(question: Question, scores: Sequence[float]) -> str:
    """The candidate with the highest score."""
    return question.candidates()[max(range(len(scores)), key=scores.__getitem__)]


if __name__ == "__main__":
    main()
