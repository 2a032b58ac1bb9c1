"""Training speed on this machine: letterwise's step, eager and compiled, beside transformers.Trainer with peft.

All variants train the same LoRA adapter on the same texts and take turns, so that a change of the machine's speed hits
all alike. The peer gets batches of like length with dynamic padding, with both of its attention implementations.
On a GPU it also takes each variant's peak memory. The ceiling is the rate of a large matrix product, measured too, over
four operations a parameter and token: two forward and two backward, as the frozen base has no gradients of its own.
Writes benchmarks/results/training_speed.json.

    python benchmarks/training_speed.py --steps 8 --rounds 2
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

from letterwise import hardware
from letterwise.adapters import add_adapter
from letterwise.config import ExperimentConfig, LoraSection, TrainingConfig
from letterwise.data.build import build_data, load_data
from letterwise.data.packing import IGNORED, tokenize_examples
from letterwise.data.texts import spelling_examples
from letterwise.data.word_lists import build_words
from letterwise.files import write_json
from letterwise.models import load_model, load_tokenizer, resolve_base
from letterwise.run_environment import describe_environment
from letterwise.training.state import AdapterOptimizer
from letterwise.training.step import TrainingStep
from letterwise.training.train import training_rows

RESULTS = Path(__file__).parent / "results" / "training_speed.json"


def synchronize(device: torch.device) -> None:
    """Wait for what a GPU is still doing; the processor does nothing behind one's back."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def matrix_products_per_second(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Floating-point operations a second of a large matrix product: the median of five."""
    first, second = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    rates = []
    for _ in range(6):
        synchronize(device)
        started = time.perf_counter()
        first @ second
        synchronize(device)
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return statistics.median(rates[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base-model", default="embedded")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a variant in each round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=4, help="rows (ours) in a step; the peer gets as many tokens")
    options = parser.parse_args()

    settings = TrainingConfig(batch_size=options.rows, row_length=128)
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model, training=settings)
    base = resolve_base(config.base_model)
    tokenizer = load_tokenizer(base)
    device = hardware.choose_device()
    dtype = hardware.choose_dtype(device)
    with tempfile.TemporaryDirectory() as scratch:
        build_words(config.words, tokenizer, 0, Path(scratch) / "words")
        build_data(config.data, tokenizer, 0, Path(scratch) / "words", Path(scratch) / "data")
        texts = load_data(Path(scratch) / "data")[0]["train"].select(range(6000))
        texts = Dataset.from_dict(texts.to_dict())

    def ours(compiled: bool) -> Callable[[int], tuple[int, float]]:
        model = add_adapter(load_model(base, device, dtype), LoraSection(), base)
        packed = training_rows("finetuned", texts, tokenizer, settings, 0)
        step = TrainingStep(model, packed, settings, 0, compiled)
        optimizer = AdapterOptimizer(model, settings)
        taken = 0

        def run(steps: int) -> tuple[int, float]:
            nonlocal taken
            tokens, started = 0, time.perf_counter()
            for _ in range(steps):
                tokens += step(taken)[1]
                optimizer.step(taken)
                taken += 1
            synchronize(device)
            return tokens, time.perf_counter() - started

        return run

    def peer(attention: str) -> Callable[[int], tuple[int, float]]:
        model = load_model(base, device, dtype)
        model.set_attn_implementation(attention)
        model = add_adapter(model, LoraSection(), base)
        examples = tokenize_examples(tokenizer, spelling_examples(texts.to_list()))
        mean_tokens = statistics.mean(len(example.input_ids) for example in examples)
        batch = round(options.rows * settings.row_length / mean_tokens)
        rows = [
            {
                "input_ids": example.input_ids,
                "labels": [
                    token if wanted else IGNORED
                    for token, wanted in zip(example.input_ids, example.wanted, strict=True)
                ],
            }
            for example in examples
        ]

        def collate(members: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            width = max(len(member["input_ids"]) for member in members)

            def padded(key: str, filler: int) -> torch.Tensor:
                return torch.tensor([member[key] + [filler] * (width - len(member[key])) for member in members])

            ids = padded("input_ids", tokenizer.pad_token_id)
            lengths = torch.tensor([[len(member["input_ids"])] for member in members])
            mask = (torch.arange(width)[None] < lengths).long()
            return {"input_ids": ids, "attention_mask": mask, "labels": padded("labels", IGNORED)}

        def run(steps: int) -> tuple[int, float]:
            part = rows[: steps * batch]
            with tempfile.TemporaryDirectory() as scratch:
                arguments = TrainingArguments(
                    output_dir=scratch,
                    per_device_train_batch_size=batch,
                    max_steps=steps,
                    learning_rate=settings.learning_rate,
                    report_to=[],
                    save_strategy="no",
                    logging_strategy="no",
                    disable_tqdm=True,
                    train_sampling_strategy="group_by_length",
                    use_cpu=device.type == "cpu",
                )
                trainer = Trainer(model=model, args=arguments, train_dataset=part, data_collator=collate)
                started = time.perf_counter()
                trainer.train()
                synchronize(device)
                return sum(len(row["input_ids"]) for row in part), time.perf_counter() - started

        return run

    variants = {
        "letterwise, eager": ours(compiled=False),
        "letterwise, compiled": ours(compiled=True),
        "transformers.Trainer + peft, SDPA": peer("sdpa"),
        "transformers.Trainer + peft, eager attention": peer("eager"),
    }
    peak: dict[str, float] = {}

    def timed(name: str, steps: int) -> tuple[int, float]:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        tokens, seconds = variants[name](steps)
        if device.type == "cuda":
            peak[name] = max(peak.get(name, 0.0), torch.cuda.max_memory_allocated() / 2**30)
        return tokens, seconds

    first = {name: timed(name, 2)[1] for name in variants}
    rates: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name in variants:
            tokens, seconds = timed(name, options.steps)
            rates[name].append(tokens / seconds)
            print(f"{name}: {tokens / seconds:,.0f} tokens/s", flush=True)
    products = matrix_products_per_second(device, dtype, 8192 if device.type == "cuda" else 2048)
    with torch.device("meta"):  # counted without being loaded
        parameters = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(base.folder)).num_parameters()
    ceiling = products / (4 * parameters)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    write_json(
        RESULTS,
        {
            "environment": describe_environment(config, base).model_dump(),
            "steps": options.steps,
            "rows_per_step": options.rows,
            "tokens_per_second": medians,
            "matrix_product_gflops": products / 1e9,
            "ceiling_tokens_per_second": ceiling,
            "share_of_ceiling": {name: value / ceiling for name, value in medians.items()},
            # With all variants' models loaded; null where it was not measured.
            "peak_gpu_memory_gib": peak or None,
            "all_tokens_per_second": rates,
            "seconds_of_the_first_two_steps": first,
        },
    )
    print(f"Written to {RESULTS}")


if __name__ == "__main__":
    main()
