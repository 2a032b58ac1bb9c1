"""The training of `configs/quick.yaml` from beginning to end, beside transformers.Trainer with peft on as many tokens.

What `benchmarks/training_speed.py` compares in the steady state is compared here with all that goes before: starting,
loading the model, making texts into tokens, and compiling. letterwise trains twice, as on a machine that never did
it and with what it kept of the first time, and decides about compiling itself. The peer has the best settings that
`training_speed.py` found for it, which has to be run first. Nobody evaluates. Each is a process of its own; time is
that of the process, memory the most that it had. Writes benchmarks/results/quick_run.json. Interrupted, the same
command goes on with the next variant.

    python benchmarks/quick_run.py
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "support"))
from parts import ROOT, Parts, circumstances
from turns import REGIONAL, Variant, fresh_caches

from letterwise.config import ExperimentConfig, dump_config, load_config
from letterwise.data.build import build_data
from letterwise.data.word_lists import build_words
from letterwise.files import read_json, write_json, write_text
from letterwise.models import load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment

RESULTS = Path(__file__).parent / "results" / "quick_run.json"
SETTINGS = Path(__file__).parent / "results" / "training_speed.json"
FIRST, AGAIN = "letterwise, the first time", "letterwise, again"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "quick.yaml")
    parser.add_argument("--base-model", help="instead of the configuration's")
    parser.add_argument("--steps", type=int, help="instead of the configuration's")
    parser.add_argument("--settings", type=Path, default=SETTINGS, help="what training_speed.py wrote")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--variant", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        from training_variants import run_variant

        run_variant(options.variant)
        return
    if not options.settings.is_file():
        raise SystemExit("The peer's best settings are not known: run benchmarks/training_speed.py first.")
    peers = read_json(options.settings)["peers"]
    config = _config(options)
    base = resolve_base(config.base_model)
    environment = describe_environment(config, base).model_dump()
    parts = Parts("quick_run", {**circumstances(environment, vars(options)), "peers": peers})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        tokenizer = load_tokenizer(base)
        build_words(config.words, tokenizer, config.seed, folder / "words")
        build_data(config.data, tokenizer, config.seed, folder / "words", folder / "data")
        found = _Bench(config, str(base.folder), folder, parts).measure(peers)
    write_json(options.output, {"environment": environment, **found})
    parts.finish()
    print(f"Written to {options.output}")


def _config(options: argparse.Namespace) -> ExperimentConfig:
    """The experiment, with one evaluation at the end, which costs nothing here."""
    config = load_config(options.config)
    steps = options.steps or config.training.max_steps
    update = {"max_steps": steps, "evaluate_every": steps, "warmup_steps": min(config.training.warmup_steps, steps)}
    training = config.training.model_copy(update=update)
    return config.model_copy(update={"training": training, "base_model": options.base_model or config.base_model})


class _Bench:
    """Runs the variants one after the other."""

    def __init__(self, config: ExperimentConfig, base: str, scratch: Path, parts: Parts) -> None:
        self.config = config
        self.base = base
        self.scratch = scratch
        self.parts = parts

    def measure(self, peers: dict[str, Any]) -> dict[str, Any]:
        """Everything but the environment; ours and theirs in turns."""
        plain, tuned = peers
        found = {FIRST: self.parts.part(FIRST, lambda: self._ours(fresh=True))}
        tokens = found[FIRST]["tokens"]
        found[plain] = self.parts.part(plain, lambda: self._theirs(peers[plain], tokens))
        found[AGAIN] = self.parts.part(AGAIN, lambda: self._ours(fresh=False))
        found[tuned] = self.parts.part(tuned, lambda: self._theirs(peers[tuned], tokens))
        seconds = {name: figures["seconds"] for name, figures in found.items()}
        return {
            "steps": found[FIRST]["steps"],
            "tokens": tokens,
            "seconds": seconds,
            "peak_rss_mib": {name: figures["peak_rss_mib"] for name, figures in found.items()},
            "ratio_to": {ours: {name: seconds[name] / seconds[ours] for name in peers} for ours in (FIRST, AGAIN)},
            "said": {name: found[name]["said"] for name in (FIRST, AGAIN)},
            "peers": peers,
        }

    def _ours(self, fresh: bool) -> dict[str, Any]:
        cache = self.parts.folder / "cache"
        if fresh:
            shutil.rmtree(cache, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=self.scratch) as name:
            folders = {"results_folder": Path(name) / "results", "checkpoints_folder": Path(name) / "checkpoints"}
            file = Path(name) / "experiment.yaml"
            write_text(file, dump_config(self.config.model_copy(update={**folders, "base_model": self.base})))
            environment = fresh_caches(cache)
            spec = {"stack": "run", "config": str(file), "data": str(self.scratch / "data")}
            return _timed(spec, environment, None)

    def _theirs(self, settings: dict[str, Any], tokens: int) -> dict[str, Any]:
        cache = {**REGIONAL, "TORCHINDUCTOR_CACHE_DIR": str(self.scratch / "peers-cache")}
        common = {
            "stack": "trainer",
            "base": self.base,
            "data": str(self.scratch / "data"),
            "settings": self.config.training.model_dump(),
            "lora": self.config.lora.model_dump(),
        }
        return _timed({**common, **settings}, cache if settings.get("compile") else None, tokens)


def _timed(spec: dict[str, Any], environment: dict[str, str] | None, tokens: int | None) -> dict[str, Any]:
    """What a variant says, and the seconds from its process's start to its end."""
    print(f"begins: {spec['stack']}", flush=True)
    started = time.perf_counter()
    variant = Variant(Path(__file__), spec, environment)
    found = variant.ready()
    if tokens is not None:
        found = variant.ask(tokens=tokens)
    variant.stop()
    figures = {**found, "seconds": time.perf_counter() - started}
    print(f"{spec['stack']}: {figures['seconds']:,.0f} s, {figures['peak_rss_mib']:,.0f} MiB at most", flush=True)
    return figures


if __name__ == "__main__":
    main()
