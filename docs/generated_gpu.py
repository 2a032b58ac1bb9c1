"""What docs/gpu.md shows of the speed of training on a GPU.

Called from cog blocks and run by `make docs`. Knows the files in benchmarks/results and docs/results/study; measures
nothing.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from letterwise.files import read_json
from letterwise.reporting.templating import markdown_table
from letterwise.results import read_results
from letterwise.sweep_results import SWEEP_FILE, SeedResult, SweepResults

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "training_speed_gpu.json"
STUDY = ROOT / "docs" / "results" / "study"
PARAMETERS = 134_515_008
"""Of SmolLM2-135M."""
PEAK_TFLOPS = {"NVIDIA H200": 989.0, "NVIDIA H100 80GB HBM3": 989.0}
"""Dense bfloat16 products, by NVIDIA's datasheets."""


def training() -> str:
    """Tokens a second by rows in a step, those of the peer, and what the sweeps took."""
    found = read_json(MEASURED)
    environment = found["environment"]
    gpu, packages = environment["gpu"], environment["packages"]
    measured_rate = found["matrix_product_gflops"]
    peak = measured_rate / 1000 if measured_rate else PEAK_TFLOPS[gpu]
    rows = [_row(_ours(entry), entry, peak) for entry in found["letterwise"]]
    rows += [_row(f"transformers.Trainer with peft, {entry['texts']} texts", entry, peak) for entry in found["peer"]]
    source = "a large matrix product, measured" if measured_rate else "NVIDIA's datasheet, not measured"
    where = (
        f"One {gpu} beside {environment['cores']} cores of {environment['cpu']}, PyTorch {packages['torch']}, "
        f"transformers {packages['transformers']}, {environment['created'][:10]}; the peak is {peak:,.0f} TFLOP/s in "
        f"bfloat16 ({source}), of which a token takes four operations a parameter. {found.get('note', '')}"
    )
    table = markdown_table(("in a step", "tokens/s", "of the peak", "peak memory"), rows)
    return "\n\n".join(filter(None, [table, where.strip(), _sweeps(gpu)]))


def _ours(entry: dict[str, Any]) -> str:
    layers = "compiled" if entry["compiled"] else "as they are"
    return f"{entry['rows']} rows of 128 tokens, layers {layers}"


def _row(what: str, entry: dict[str, Any], peak: float) -> tuple[str, ...]:
    """What was measured of a variant, or why nothing was."""
    if "problem" in entry:
        return what, entry["problem"], "–", "–"
    rate, memory = entry["tokens_per_second"], entry["peak_gpu_gib"]
    share = rate * 4 * PARAMETERS / (peak * 1e12)
    return what, f"{rate:,.0f}", f"{share:.1%}", "not measured" if memory is None else f"{memory:.1f} GiB"


def _sweeps(gpu: str) -> str:
    """The trainings of the study on that GPU."""
    seeds = [
        seed
        for path in sorted(STUDY.glob(f"*/{SWEEP_FILE}"))
        for trial in read_results(path, SweepResults).trials
        for seed in trial.seeds
        if seed.environment.device == "cuda" and seed.environment.gpu == gpu
    ]
    if not seeds:
        return ""
    rates = sorted(seed.tokens / seed.seconds for seed in seeds)
    return (
        f"`letterwise sweep --workers` trained {len(seeds)} adapters of the [study](transfer_learning.md) on it, "
        f"{sum(seed.tokens for seed in seeds):,} tokens in all, up to {_side_by_side(seeds)} side by side (what was "
        f"not finished is not counted): {rates[0]:,.0f} to {rates[-1]:,.0f} tokens/s each."
    )


def _side_by_side(seeds: list[SeedResult]) -> int:
    """Most trainings at work at once; evaluations, which only lengthen them, are not counted."""
    starts = [datetime.fromisoformat(seed.environment.created) for seed in seeds]
    ends = [start + timedelta(seconds=seed.seconds) for start, seed in zip(starts, seeds, strict=True)]
    return max(sum(start <= moment < end for start, end in zip(starts, ends, strict=True)) for moment in starts)
