"""What docs/gpu.md shows of the speed of training on a GPU.

Called from cog blocks and run by `make docs`. Knows the files in benchmarks/results and docs/results/study; measures
nothing.
"""

from __future__ import annotations

from pathlib import Path

from letterwise.files import read_json
from letterwise.results import read_results
from letterwise.sweep_results import SWEEP_FILE, SweepResults

ROOT = Path(__file__).parents[1]
MEASURED = ROOT / "benchmarks" / "results" / "training_speed_gpu.json"
STUDY = ROOT / "docs" / "results" / "study"
PARAMETERS = 134_515_008
"""Of SmolLM2-135M."""
PEAK_TFLOPS = {"NVIDIA H200": 989.0, "NVIDIA H100 80GB HBM3": 989.0}
"""Dense bfloat16 products, by NVIDIA's datasheets."""


def training() -> str:
    """Tokens a second by rows in a step, and what the sweeps took."""
    found = read_json(MEASURED)
    environment = found["environment"]
    gpu, packages = environment["gpu"], environment["packages"]
    measured_rate = found.get("matrix_product_gflops")
    peak = measured_rate / 1000 if measured_rate else PEAK_TFLOPS[gpu]
    lines = [
        "| rows of 128 tokens in a step | layers | tokens/s | of the peak | peak memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for entry in found["letterwise"]:
        rate, memory = entry["tokens_per_second"], entry["peak_gpu_gib"]
        share = rate * 4 * PARAMETERS / (peak * 1e12)
        layers = "compiled" if entry["compiled"] else "as they are"
        told = "not measured" if memory is None else f"{memory:.1f} GiB"
        lines.append(f"| {entry['rows']} | {layers} | {rate:,.0f} | {share:.1%} | {told} |")
    source = "a large matrix product, measured" if measured_rate else "NVIDIA's datasheet, not measured"
    where = (
        f"One {gpu} beside {environment['cores']} cores of {environment['cpu']}, PyTorch {packages['torch']}, "
        f"transformers {packages['transformers']}, {environment['created'][:10]}; the peak is {peak:,.0f} TFLOP/s in "
        f"bfloat16 ({source}), of which a token takes four operations a parameter. {found.get('note', '')}"
    )
    return "\n".join([*lines, "", where.strip(), "", _sweeps(gpu)])


def _sweeps(gpu: str) -> str:
    """The trainings of the study on that GPU."""
    files = sorted(STUDY.glob(f"*/{SWEEP_FILE}"))
    seeds = [
        seed
        for path in files
        for trial in read_results(path, SweepResults).trials
        for seed in trial.seeds
        if seed.environment.device == "cuda" and seed.environment.gpu == gpu
    ]
    if not seeds:
        return ""
    rates = sorted(seed.tokens / seed.seconds for seed in seeds)
    return (
        f"`letterwise sweep --workers` trained {len(seeds)} adapters of the [study](transfer_learning.md) on it, "
        f"{sum(seed.tokens for seed in seeds):,} tokens in all, 10 to 15 side by side: {rates[0]:,.0f} to "
        f"{rates[-1]:,.0f} tokens/s each."
    )
