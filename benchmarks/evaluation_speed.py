"""Evaluation speed on this machine: letterwise beside a loop around `generate` and beside lm-evaluation-harness.

One model is asked to spell words and to answer a count and a position question about each, in three answer modes.
letterwise does all that `letterwise evaluate` does, with the probabilities of all valid answers; the loop only writes
texts. The harness scores the answers of mode `direct`, as letterwise's scoring does. Both peers have their best batch
size, doubled or halved for as long as that is faster. All are asked about the same sample, in turns; letterwise then
about all words. Each is a process of its
own, with a peak memory of its own, and sleeps while another one measures. On how many answers the loop and letterwise
agree is counted, in the number type of evaluation and, on fewer words, in float32. Words are validation words. Writes
benchmarks/results/evaluation_speed.json. Interrupted, the same command goes on with the next part.

    python benchmarks/evaluation_speed.py --adapter checkpoints/quick/finetuned/best
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is fetched: the model and the questions are here

from parts import Parts, best_size, circumstances
from turns import Variant

from letterwise import hardware
from letterwise.adapters import merge_adapter
from letterwise.config import ExperimentConfig
from letterwise.data.build import build_data, load_data
from letterwise.data.word_lists import build_words
from letterwise.data_config import DataConfig, WordsConfig
from letterwise.files import write_json
from letterwise.models import load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "evaluation_speed.json"
OURS, OUR_SCORES, LOOP, HARNESS = "letterwise", "letterwise scores", "generate", "lm_eval"
Items = dict[str, list[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--adapter", type=Path, help="the peers get it merged; without one the base model is asked")
    parser.add_argument("--words", type=int, default=1000, help="that letterwise is asked about")
    parser.add_argument("--sample", type=int, default=1000, help="words of them that the peers are asked about, too")
    parser.add_argument("--exact-words", type=int, default=30, help="words for the comparison in float32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--first-batch", type=int, default=32, help="that is tried for a peer")
    parser.add_argument("--search-questions", type=int, default=64, help="for each batch size; also the largest")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--variant", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        from evaluation_variants import run_variant

        run_variant(options.variant)
        return
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model)
    base = resolve_base(config.base_model)
    environment = describe_environment(config, base).model_dump()
    parts = Parts("evaluation_speed", circumstances(environment, vars(options)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        items = _items(config, options.words, folder)
        model = base.folder
        if options.adapter:
            model = folder / "merged"
            merge_adapter(base, options.adapter, model)
        dtype = str(hardware.choose_dtype(hardware.choose_device())).removeprefix("torch.")
        adapter = str(options.adapter.resolve()) if options.adapter else None
        # The name and not the folder: an adapter knows its base by it.
        common = {"base": options.base_model, "model": str(model), "adapter": adapter}
        found = _Bench(options, items, common, parts).measure(dtype)
    adapter = options.adapter and str(options.adapter)
    write_json(options.output, {"environment": environment, "adapter": adapter, **found})
    parts.finish()
    print(f"Written to {options.output}")


def _items(config: ExperimentConfig, words: int, folder: Path) -> Items:
    """Validation words, each with the questions about it."""
    tokenizer = load_tokenizer(resolve_base(config.base_model))
    build_words(WordsConfig(validation_words=words, test_words=words), tokenizer, config.seed, folder / "words")
    data = DataConfig(train_examples=1000, count_questions=words, position_questions=words)
    build_data(data, tokenizer, config.seed, folder / "words", folder / "data")
    spelling, position_count = load_data(folder / "data")
    return {"words": spelling["validation"]["word"][:], "questions": position_count["validation"].to_list()}


def _of_words(items: Items, words: Sequence[str]) -> Items:
    return {"words": list(words), "questions": [row for row in items["questions"] if row["word"] in set(words)]}


def _answers(items: Items) -> int:
    """Spellings, and answers in three modes."""
    return len(items["words"]) + 3 * len(items["questions"])


class _Bench:
    """Measures in turns, and sums up."""

    def __init__(self, options: argparse.Namespace, items: Items, common: dict[str, Any], parts: Parts) -> None:
        self.options = options
        self.items = items
        self.common = common
        self.parts = parts
        self.tried: list[dict[str, Any]] = []

    def measure(self, dtype: str) -> dict[str, Any]:
        """Everything but the environment."""
        batches = {stack: self._best_batch(stack, dtype) for stack in (LOOP, HARNESS)}
        turns = self.parts.part("turns", lambda: self._turns(dtype, batches))
        growth = self.parts.part("growth", lambda: self._growth(dtype))
        exact = self.parts.part("float32", self._exact_agreement)
        total = {stack: sum(values) for stack, values in turns["all_sample_seconds"].items()}
        return {
            "dtype": dtype,
            "words": len(self.items["words"]),
            **turns,
            "sample_seconds": total,
            "ratio_to_generate": total[LOOP] / total[OURS],
            "ratio_to_lm_eval": total[HARNESS] / total[OUR_SCORES],
            "by_words": growth,
            "batches": batches,
            "tried": self.tried,
            "agreement": {dtype: turns["agreement"], "float32": exact},
        }

    def _turns(self, dtype: str, batches: dict[str, int]) -> dict[str, Any]:
        """All of them on the sample."""
        variants = {}
        for stack in (OURS, OUR_SCORES, LOOP, HARNESS):  # one after the other: loading computes too
            variants[stack] = self._start(stack, dtype, batches.get(stack, 0))
        size = self.options.sample // self.options.rounds
        words = self.items["words"]
        seconds: dict[str, list[float]] = {stack: [] for stack in variants}
        memory: dict[str, float] = {}
        agreement, scored_alike = _Agreement(), _Agreement()
        parts = [_of_words(self.items, words[turn * size : (turn + 1) * size]) for turn in range(self.options.rounds)]
        for part in parts:
            found = {stack: variant.ask(**part) for stack, variant in variants.items()}
            for stack, figures in found.items():
                seconds[stack].append(figures["seconds"])
                memory[stack] = figures["peak_rss_mib"]
                print(f"{stack}: {figures['seconds']:,.1f} s for {len(part['words'])} words", flush=True)
            agreement.add(found[OURS]["answers"], found[LOOP]["answers"])
            scored_alike.add(found[OUR_SCORES]["answers"], found[HARNESS]["answers"])
        for variant in variants.values():
            variant.stop()
        return {
            "sample_words": sum(len(part["words"]) for part in parts),
            "sample_answers": sum(map(_answers, parts)),
            "sample_questions_scored": sum(len(part["questions"]) for part in parts),
            "all_sample_seconds": seconds,
            "agreement": agreement.figures(),
            "scores_agree_with_lm_eval": scored_alike.figures(),
            "peak_rss_mib": memory,
        }

    def _growth(self, dtype: str) -> list[dict[str, Any]]:
        """letterwise's time by words, up to all of them."""
        words = self.items["words"]
        variant = self._start(OURS, dtype, 0)
        rows = []
        for count in sorted({len(words) // 8, len(words) // 3, len(words)} - {0}):
            part = _of_words(self.items, words[:count])
            figures = variant.ask(**part)
            rows.append({"words": count, "answers": _answers(part), **_without_answers(figures)})
            print(f"{OURS}: {figures['seconds']:,.1f} s for {count} words", flush=True)
        variant.stop()
        return rows

    def _best_batch(self, stack: str, dtype: str) -> int:
        def speed(batch: int) -> float:
            tried = self.parts.part(f"{stack}, batches of {batch}", lambda: self._try(stack, dtype, batch))
            self.tried.append(tried)
            print(f"tried {tried}", flush=True)
            return 1 / float(tried["seconds"])

        return best_size(speed, self.options.first_batch, self.options.search_questions)

    def _try(self, stack: str, dtype: str, batch: int) -> dict[str, Any]:
        questions = self.items["questions"][: self.options.search_questions]
        variant = self._start(stack, dtype, batch)
        variant.ask(words=[], questions=questions[:4])  # the first is slower than those to come
        seconds = variant.ask(words=[], questions=questions)["seconds"]
        variant.stop()
        return {"stack": stack, "batch": batch, "questions": len(questions), "seconds": seconds}

    def _exact_agreement(self) -> dict[str, Any]:
        part = _of_words(self.items, self.items["words"][: self.options.exact_words])
        variants = [self._start(OURS, "float32", 0), self._start(LOOP, "float32", self.options.first_batch)]
        agreement = _Agreement()
        agreement.add(*(variant.ask(**part)["answers"] for variant in variants))
        for variant in variants:
            variant.stop()
        return agreement.figures()

    def _start(self, stack: str, dtype: str, batch: int) -> Variant:
        variant = Variant(Path(__file__), {"stack": stack, "dtype": dtype, "batch": batch, **self.common})
        variant.ready()
        return variant


class _Agreement:
    """On how many answers two agree, by way of asking."""

    def __init__(self) -> None:
        self.equal: dict[str, int] = {}
        self.n: dict[str, int] = {}

    def add(self, ours: dict[str, dict[str, str]], theirs: dict[str, dict[str, str]]) -> None:
        for way, answers in ours.items():
            assert answers.keys() == theirs[way].keys(), "they were asked different things"
            self.n[way] = self.n.get(way, 0) + len(answers)
            self.equal[way] = self.equal.get(way, 0) + sum(answers[key] == theirs[way][key] for key in answers)

    def figures(self) -> dict[str, Any]:
        by_way = {way: {"equal": self.equal[way], "n": n} for way, n in self.n.items()}
        return {"equal": sum(self.equal.values()), "n": sum(self.n.values()), "by_way": by_way}


def _without_answers(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "answers"}


if __name__ == "__main__":
    main()
