"""What docs/performance.md shows of the speed of training and evaluation beside the plain stack.

Called from cog blocks and run by `make docs`. Knows the files in benchmarks/results and the figures drawn of them;
measures nothing. What is not recorded is not mentioned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from letterwise.files import read_json
from letterwise.reporting.templating import markdown_table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
FIGURES = Path(__file__).parent / "figures"
"""Drawn by docs/performance_figures.py."""


def training() -> str:
    """Training beside the plain stack; nothing where it is not recorded."""
    measured = _recorded("training_speed")
    if measured is None:
        return ""
    rows = [
        (
            name,
            f"{speed:,.0f}",
            f"{measured['share_of_ceiling'][name]:.0%}",
            f"{measured['peak_rss_mib'][name] / 1024:.1f} GiB",
        )
        for name, speed in measured["tokens_per_second"].items()
    ]
    ratios = " and ".join(
        f"{ratio:.1f} times the tokens a second of {name} ({_settings(measured['peers'][name])})"
        for name, ratio in measured["ratio_to"].items()
    )
    small = " and ".join(
        f"{ratio:.1f} times those of {name}" for name, ratio in measured["ratio_of_small_batches_to"].items()
    )
    rows_of = measured["rows_per_step"]
    compiling = measured["compile_seconds"]
    failed = [entry for entry in measured["tried"] if entry["problem"]]
    return "\n\n".join(
        [
            "## Training",
            "The same adapter on the same texts, in the steady state: tokens of texts, not padding "
            "(`benchmarks/training_speed.py`). The ceiling is what large matrix products alone would allow.",
            markdown_table(("variant", "tokens/s", "of the ceiling", "peak memory"), rows),
            f"Large batches are of {max(rows_of.values())} packed rows, the others of {min(rows_of.values())}, as in "
            f"the quick run. At its best letterwise trains {ratios}; with the quick run's batches {small}. Each peer "
            f"has the best of {_batch_sizes(measured)} texts in a batch; the tuned one the best of "
            f"{len(measured['tried'])} settings that were tried"
            + "".join(f", of which {_settings(entry['settings'])} failed or took too long" for entry in failed)
            + f". The ceiling is {measured['ceiling_tokens_per_second']:,.0f} tokens/s, from "
            f"{measured['matrix_product_gflops']:,.0f} GFLOP/s. Compiling takes {compiling['first']:,.0f} s at first "
            f"and {compiling['loaded']:,.0f} s from the kept code. Making a batch ready takes "
            f"{measured['share_of_a_step_preparing_its_batch']:.2%} of a step. Medians of {measured['rounds']} rounds "
            f"in turns. {_where(measured)}",
            *_figure("training", "Training speed by variant, rows in a batch and processes"),
        ]
    )


def quick_run() -> str:
    """A whole quick training beside the plain stack; nothing where it is not recorded."""
    measured = _recorded("quick_run")
    if measured is None:
        return ""
    seconds, memory = measured["seconds"], measured["peak_rss_mib"]
    rows = [(name, f"{taken:,.0f} s", f"{memory[name] / 1024:.1f} GiB") for name, taken in seconds.items()]
    ratios = "; ".join(
        f"{ours} in {' and '.join(f'1/{ratio:.1f} of the time of {name}' for name, ratio in ratios.items())}"
        for ours, ratios in measured["ratio_to"].items()
    )
    said = " ".join(f"{name[0].upper()}{name[1:]}: {' '.join(lines)}" for name, lines in measured["said"].items())
    return "\n\n".join(
        [
            "### From start to end",
            f"The training of `configs/quick.yaml`, {measured['steps']:,} steps and {measured['tokens']:,} tokens, "
            "with starting, loading, making texts into tokens and compiling, without evaluations "
            "(`benchmarks/quick_run.py`). The peer reads as many tokens with the settings above.",
            markdown_table(("variant", "time", "peak memory"), rows),
            f"It is done by {ratios}. {said} {_where(measured)}",
        ]
    )


def evaluation() -> str:
    """Evaluation beside the plain stack and the harness; nothing where it is not recorded."""
    measured = _recorded("evaluation_speed")
    if measured is None:
        return ""
    seconds, answers, scored = (
        measured[name] for name in ("sample_seconds", "sample_answers", "sample_questions_scored")
    )
    memory = measured["peak_rss_mib"]
    pairs = (
        ("everything", answers, "letterwise", "a loop around `generate`", "generate"),
        ("scoring in mode `direct`", scored, "letterwise scores", "lm-evaluation-harness", "lm_eval"),
    )
    rows = [
        (
            what,
            f"{n:,}",
            f"{seconds[ours]:,.0f} s, {memory[ours] / 1024:.1f} GiB",
            f"{name}, batches of {measured['batches'][theirs]}",
            f"{seconds[theirs]:,.0f} s, {memory[theirs] / 1024:.1f} GiB",
            f"{seconds[theirs] / seconds[ours]:.1f}",
        )
        for what, n, ours, name, theirs in pairs
    ]
    whole = max(measured["by_words"], key=lambda row: row["words"])
    agreement = "; ".join(
        f"{figures['equal']:,} of {figures['n']:,} in {dtype}" for dtype, figures in measured["agreement"].items()
    )
    alike = measured["scores_agree_with_lm_eval"]
    return "\n\n".join(
        [
            "## Evaluation",
            f"Spellings, counts and positions in three answer modes, of {measured['sample_words']:,} words "
            "(`benchmarks/evaluation_speed.py`). The loop only writes; letterwise also scores all valid answers.",
            markdown_table(("what", "answers", "letterwise", "peer", "the peer's", "ratio"), rows),
            f"All {whole['words']:,} words, {whole['answers']:,} answers, take letterwise {whole['seconds']:,.0f} s. "
            f"Its answers are those of the loop on {agreement}, and those of the harness on {alike['equal']:,} of "
            f"{alike['n']:,}. {_where(measured)}",
            *_figure("evaluation", "Evaluation time by words and processes, and memory by words"),
        ]
    )


def growth_of_data() -> str:
    """Building data beside `datasets` alone, and the figure of it; nothing of what is not recorded."""
    measured = _recorded("data_building")
    figure = _figure("data_building", "Time and memory of building data by the number of texts")
    if measured is None:
        return "\n\n".join(figure)
    texts = measured["target_texts"]
    ours = next(row for row in measured["rows"] if row["texts"] == texts)
    rows = [
        (name, f"{costs['data_seconds']:.1f} s", f"{costs['peak_mib']:,.0f} MiB")
        for name, costs in {"letterwise": ours, **measured["peers"]}.items()
    ]
    best = min(measured["peers"], key=lambda name: measured["peers"][name]["data_seconds"])
    ratio = measured["peers"][best]["data_seconds"] / ours["data_seconds"]
    return "\n\n".join(
        [
            f"{texts:,} texts, made of the same words and templates and put through the same checks, beside what one "
            "writes with `datasets` alone: a table of drawn words, `map` to texts, `map` to check them.",
            markdown_table(("how", "data and audit", "peak memory"), rows),
            f"The fastest of the others, {best}, takes {ratio:.1f} times as long. Medians of {measured['rounds']} "
            f"rounds in turns. {_where(measured)}",
            *figure,
        ]
    )


def _figure(name: str, description: str) -> list[str]:
    path = FIGURES / f"{name}.png"
    return [f"![{description}](figures/{path.name})"] if path.is_file() else []


def _settings(settings: Any) -> str:
    """Settings of the peer in words."""
    words = {
        "by_length": "texts of like length together",
        "compile": "compiled",
        "attention": f"attention {settings.get('attention')}",
        "adapter": f"adapter in {settings.get('adapter')}",
    }
    return ", ".join([f"batches of {settings['batch']}", *(text for name, text in words.items() if settings.get(name))])


def _batch_sizes(measured: Any) -> str:
    sizes = sorted({entry["settings"]["batch"] for entry in measured["tried"]})
    return ", ".join(map(str, sizes[:-1])) + f" or {sizes[-1]}"


def _recorded(name: str) -> Any:
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.is_file() else None


def _where(measured: Any) -> str:
    environment = measured["environment"]
    date = environment["created"][:10]
    return f"Measured on {date} on {environment['cores']} cores of {environment['cpu']}."
