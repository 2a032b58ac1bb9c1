"""Training speed on this machine: letterwise, eager and compiled, beside transformers.Trainer with peft.

All train the same LoRA adapter on the same texts; ours with the quick run's batches, and with large ones. The peer is
measured twice, each at its best batch size, which is doubled or halved for as long as that is faster: as the libraries
come, and with every setting of theirs tuned (attention, number type of the adapter, texts of like length together,
torch.compile of the repeated layers where it works within a time limit); the settings are tuned one after the other and
all that was tried is recorded. Each variant is a process of its own, with a peak memory of its own, and sleeps while
another one measures; they take turns, so that a change of the machine's speed hits all alike. What is measured is the
steady state, tokens of texts a second, without padding.

The ceiling is the rate of a large matrix product, measured in the same turns, over four operations a parameter and
token: two forward and two backward, as the frozen base has no gradients of its own. What compiling costs, at first and
from the kept code, is measured in a cache folder of its own. Writes benchmarks/results/training_speed.json.
Interrupted, the same command goes on behind the settings that it has tried.

    python benchmarks/training_speed.py --rounds 2
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
from parts import Parts, best_size, circumstances
from turns import REGIONAL, Variant, VariantError

from letterwise.config import DataConfig, ExperimentConfig, TrainingConfig, WordsConfig
from letterwise.data.build import build_data
from letterwise.data.word_lists import build_words
from letterwise.files import write_json
from letterwise.models import load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "training_speed.json"
EAGER, COMPILED = "letterwise, eager", "letterwise, compiled"
LARGE = "letterwise, compiled, large batches"
PLAIN, TUNED = "Trainer + peft, as they come", "Trainer + peft, tuned"
ATTENTIONS = ("sdpa", "eager")
ADAPTERS = ("float32", "bfloat16")
Spec = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument(
        "--tokens", type=int, default=18000, help="of a variant in each round, at least: fifty batches by length"
    )
    parser.add_argument("--search-tokens", type=int, default=1024, help="for each setting that is tried, at least")
    parser.add_argument("--rows", type=int, default=4, help="packed rows in a step of ours")
    parser.add_argument("--large-rows", type=int, default=16, help="in a step of ours with large batches")
    parser.add_argument("--first-batch", type=int, default=16, help="texts in a step of the peer, to begin with")
    parser.add_argument("--most", type=int, default=256, help="texts in a step of the peer")
    parser.add_argument("--compile-limit", type=float, default=240, help="seconds for the peer's compiled trial")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--variant", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        from training_variants import run_variant

        run_variant(options.variant)
        return
    settings = TrainingConfig(batch_size=options.rows, row_length=128)
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model, training=settings)
    base = resolve_base(config.base_model)
    environment = describe_environment(config, base).model_dump()
    parts = Parts("training_speed", circumstances(environment, vars(options)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = load_tokenizer(base)
        build_words(WordsConfig(), tokenizer, 0, folder / "words")
        build_data(DataConfig(train_examples=8000), tokenizer, 0, folder / "words", folder / "data")
        common = {"base": str(base.folder), "data": str(folder / "data"), "settings": settings.model_dump()}
        found = _Bench(options, common, folder, parts).measure()
    write_json(options.output, {"environment": environment, **found})
    parts.finish()
    print(f"Written to {options.output}")


class _Bench:
    """Tries, measures in turns, and sums up."""

    def __init__(self, options: argparse.Namespace, common: Spec, scratch: Path, parts: Parts) -> None:
        self.options = options
        self.parts = parts
        self.common = common
        self.cache = {"LETTERWISE_CACHE": str(scratch / "cache"), "TORCHINDUCTOR_CACHE_DIR": ""}
        self.peers_cache = {**REGIONAL, "TORCHINDUCTOR_CACHE_DIR": str(scratch / "peers-cache")}
        self.tried: list[Spec] = []

    def measure(self) -> dict[str, Any]:
        """Everything but the environment."""
        plain = self._at_best_batch({"stack": "trainer"})
        tuned = self._tuned()
        large = self.options.large_rows
        started = {}
        for name, rows in {"first": self.options.rows, "first_large": large}.items():
            first = self._ours(compiled=True, rows=rows)
            started[name] = first.ready()
            first.stop()
        makers = {
            EAGER: lambda: self._ours(compiled=False),
            COMPILED: lambda: self._ours(compiled=True),
            LARGE: lambda: self._ours(compiled=True, rows=large),
            PLAIN: lambda: self._start(plain),
            TUNED: lambda: self._start(tuned),
        }
        variants: dict[str, Variant] = {}
        for name, start in makers.items():  # one after the other: loading computes too
            variants[name] = start()
            started[name] = variants[name].ready()
            self._warm(variants[name])
        rates: dict[str, list[float]] = {name: [] for name in variants}
        last: dict[str, dict[str, Any]] = {}
        ceiling = Variant(Path(__file__), {"stack": "products", **self.common})
        ceiling.ready()
        products = []
        for _ in range(self.options.rounds):
            products.append(ceiling.ask()["rate"])
            for name, variant in variants.items():
                last[name] = variant.ask(tokens=self.options.tokens)
                rates[name].append(last[name]["tokens"] / last[name]["seconds"])
                print(f"{name}: {rates[name][-1]:,.0f} tokens/s", flush=True)
        for variant in (*variants.values(), ceiling):
            variant.stop()
        return self._summary(rates, last, products, started, {PLAIN: plain, TUNED: tuned})

    def _summary(
        self,
        rates: dict[str, list[float]],
        last: dict[str, dict[str, Any]],
        products: list[float],
        started: dict[str, dict[str, Any]],
        peers: dict[str, Spec],
    ) -> dict[str, Any]:
        medians = {name: statistics.median(values) for name, values in rates.items()}
        rate = statistics.median(products)
        ceiling = rate / (4 * started[PLAIN]["parameters"])
        best = max(medians[name] for name in (EAGER, COMPILED, LARGE))
        seconds_per_step = last[EAGER]["seconds"] / last[EAGER]["steps"]
        return {
            "rounds": self.options.rounds,
            "tokens_in_a_round": self.options.tokens,
            "rows_per_step": {EAGER: self.options.rows, COMPILED: self.options.rows, LARGE: self.options.large_rows},
            "tokens_per_second": medians,
            "all_tokens_per_second": rates,
            "matrix_product_gflops": rate / 1e9,
            "all_matrix_product_gflops": [value / 1e9 for value in products],
            "ceiling_tokens_per_second": ceiling,
            "share_of_ceiling": {name: value / ceiling for name, value in medians.items()},
            "ratio_to": {name: best / medians[name] for name in (PLAIN, TUNED)},
            "ratio_of_small_batches_to": {name: medians[COMPILED] / medians[name] for name in (PLAIN, TUNED)},
            "peak_rss_mib": {name: figures["peak_rss_mib"] for name, figures in last.items()},
            "peak_gpu_gib": {name: figures["peak_gpu_gib"] for name, figures in last.items()},
            "compile_seconds": {
                "first": started["first"]["seconds_to_start"],
                "loaded": started[COMPILED]["seconds_to_start"],
            },
            "compiled": started[COMPILED]["compiled"],
            "share_of_a_step_preparing_its_batch": started[EAGER]["preparation_seconds"] / seconds_per_step,
            "peers": {name: _told(spec) for name, spec in peers.items()},
            "tried": self.tried,
        }

    def _tuned(self) -> Spec:
        """The peer's best settings, each chosen with the ones before it; compiled, with the batch that was best."""
        start = {"stack": "trainer", "batch": self.options.first_batch, "by_length": True}
        chosen = self._best(
            {**start, "attention": attention, "adapter": adapter} for attention in ATTENTIONS for adapter in ADAPTERS
        )
        chosen = self._at_best_batch(chosen)
        return self._best([chosen, {**chosen, "compile": True}])

    def _at_best_batch(self, spec: Spec) -> Spec:
        size = best_size(
            lambda batch: self._tried_speed({**spec, "batch": batch}), self.options.first_batch, self.options.most
        )
        return {**spec, "batch": size}

    def _best(self, specs: Iterable[Spec]) -> Spec:
        return max(specs, key=self._tried_speed)

    def _tried_speed(self, spec: Spec) -> float:
        known = next((entry for entry in self.tried if entry["settings"] == _told(spec)), None)
        if known is None:
            known = self.parts.part(json.dumps(_told(spec)), lambda: self._try(spec))
            self.tried.append(known)
            print(f"tried {known}", flush=True)
        return float(known["tokens_per_second"] or 0.0)

    def _try(self, spec: Spec) -> dict[str, Any]:
        variant = self._start(spec)
        ends = time.perf_counter() + self.options.compile_limit if spec.get("compile") else None
        speed, problem = None, None
        try:
            variant.ready()
            self._warm(variant, ends and ends - time.perf_counter())
            found = variant.ask(ends and max(1.0, ends - time.perf_counter()), tokens=self.options.search_tokens)
            variant.stop()
            speed = found["tokens"] / found["seconds"]
        except VariantError as error:
            problem = str(error)
        return {"settings": _told(spec), "tokens_per_second": speed, "problem": problem}

    def _warm(self, variant: Variant, limit: float | None = None) -> None:
        """The first steps are slower than those to come; compiled, the first of each of some widths."""
        variant.ask(limit, tokens=8 * self.options.search_tokens if variant.spec.get("compile") else 1)

    def _start(self, spec: Spec) -> Variant:
        return Variant(Path(__file__), {**self.common, **spec}, self.peers_cache if spec.get("compile") else None)

    def _ours(self, compiled: bool, rows: int | None = None) -> Variant:
        settings = {**self.common["settings"], "compile": compiled}
        settings["batch_size"] = rows or settings["batch_size"]
        return Variant(Path(__file__), {"stack": "letterwise", **self.common, "settings": settings}, self.cache)


def _told(spec: Spec) -> Spec:
    """What of a variant's settings there is to tell."""
    return {name: value for name, value in spec.items() if name != "stack"}


if __name__ == "__main__":
    main()
