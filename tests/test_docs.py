"""The documents: what they link to, name and show exists, and every figure is that of a recorded run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from matplotlib.image import imread
from typer.main import get_command

from letterwise.api.app import create_app
from letterwise.api.settings import ServiceSettings
from letterwise.cli import app
from letterwise.config import ExperimentConfig, dump_config, load_config
from letterwise.files import write_json
from letterwise.reporting.model_card import FILE_NOTES
from letterwise.reporting.summary import conclusion, headline_markdown
from letterwise.results import (
    EvaluationResults,
    TransferResults,
    read_results,
)
from letterwise.sweep_config import load_sweep
from letterwise.sweep_results import BEST_CONFIG_FILE, IMPORTANCE_FIGURE, SWEEP_FILE

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
README = DOCUMENTS[0].read_text(encoding="utf-8")


def options(command: Any) -> set[str]:
    """The options of a command, or of all commands of a group."""
    own = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return own.union({"--help"}, *(options(inner) for inner in getattr(command, "commands", {}).values()))


GROUPS = {name: getattr(command, "commands", {}) for name, command in get_command(app).commands.items()}  # type: ignore[attr-defined]
COMMANDS = {name: options(command) for name, command in get_command(app).commands.items()}  # type: ignore[attr-defined]


generated, generated_api, generated_performance, generated_speed, performance_figures = map(
    import_module,
    ("generated", "generated_api", "generated_performance", "generated_speed", "performance_figures"),
)


def without_cog(text: str) -> str:
    return re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)


def code_blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    prose = re.sub(r"^```.*?^```$", "", without_cog(text), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def anchors(text: str) -> set[str]:
    """Names that GitHub gives to the headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def typed_commands(text: str, program: str) -> Iterator[list[str]]:
    """What is typed after `program` in code blocks and code spans."""
    for line in [*code_spans(text), *(line for block in code_blocks(text) for line in block.splitlines())]:
        if line.startswith(f"{program} "):
            yield shlex.split(line, comments=True)[1:]


def expanded(path: str) -> list[str]:
    """'a/{b,c}' → 'a/b', 'a/c'."""
    pieces = [piece.split(",") for piece in re.split(r"[{}]", path)]
    return ["".join(choice) for choice in product(*pieces)]


def run_layout() -> set[str]:
    """Every path that the README says a run leaves."""
    (block,) = (block for block in code_blocks(README) if block.startswith("results/<run_name>/"))
    paths, top = set(), ""
    for line in block.splitlines():
        path = line.split()[0]
        top = "" if not line.startswith(" ") else top
        paths.update(expanded(top + path))
        top = path if path.endswith("<run_name>/") else top
    return paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_and_image_leads_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            linked = document.parent / name if name else document
            assert linked.exists(), f"{document.name} links to {target}"
            assert not anchor or anchor in anchors(linked.read_text(encoding="utf-8")), f"{target} has no such heading"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for name, *arguments in typed_commands(text, "letterwise"):
        assert name in COMMANDS, f"there is no `letterwise {name}`"
        if GROUPS[name] and arguments:
            assert arguments[0] in GROUPS[name], f"there is no `letterwise {name} {arguments[0]}`"
        given = {argument for argument in arguments if argument.startswith("-")}
        assert given <= COMMANDS[name], f"`letterwise {name}` has no {given - COMMANDS[name]}"
        if "--config" in arguments:
            load = load_sweep if name == "sweep" else load_config
            load(ROOT / arguments[arguments.index("--config") + 1])
    made = {target for target, *_ in filter(None, typed_commands(text, "make"))}
    assert made <= set(targets), f"make has no target {made - set(targets)}"
    lone_options = {span.split()[0] for span in code_spans(text) if span.startswith("--")}
    assert lone_options <= set().union(*COMMANDS.values())


def test_the_readme_shows_every_command() -> None:
    headings = " ".join(re.findall(r"^### .+: (.+)$", README, re.MULTILINE))
    assert set(re.findall(r"`(?:letterwise )?(\w+)`", headings)) == COMMANDS.keys()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_path_named_is_in_the_repository_or_in_a_run_folder(document: Path) -> None:
    in_run = {path.removeprefix("results/<run_name>/") for path in run_layout()}
    in_run |= {Path(path).name for path in in_run} | {"tokenizer.json", "eval.yaml", *FILE_NOTES}
    in_run |= {SWEEP_FILE, BEST_CONFIG_FILE, IMPORTANCE_FIGURE}
    named = re.compile(
        r"(?:src|docs|configs|tests|benchmarks)/[\w./-]*|[\w./-]+\.(?:md|ya?ml|jsonl?|py|parquet|png|toml|cff)"
    )
    for span in code_spans(document.read_text(encoding="utf-8")):
        if named.fullmatch(span) and not span.startswith("/"):
            found = [
                *ROOT.glob(span),
                *document.parent.glob(span),
                *(ROOT / "src" / "letterwise").rglob(Path(span).name),
            ]
            assert found or span in in_run, f"{document.name} names {span}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_route_named_is_served(document: Path) -> None:
    settings = ServiceSettings(**{name: field.default for name, field in ServiceSettings.model_fields.items()})
    served = {*create_app(settings).openapi()["paths"], "/", "/docs", "/openapi.json", "/batch"}
    spans = code_spans(document.read_text(encoding="utf-8"))
    named = {match[1] for span in spans if (match := re.fullmatch(r"(?:GET |POST )?(/[\w./-]*)", span))}
    assert named <= served


def test_what_a_run_leaves_is_what_the_code_writes() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "src" / "letterwise").rglob("*.py"))
    for path in run_layout():
        name = Path(path).name
        if name != "<run_name>":
            if path.endswith(".parquet") and "/data/" in path:
                name = Path(path).stem  # files are named after splits, and folders after configs
            assert re.search(rf'["/]{re.escape(name)}"', source), f"nothing writes {path}"


def python_in_the_readme(about: str) -> str:
    (code,) = (
        code for code in re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL) if about in code
    )
    return str(code)


def test_the_readme_uses_a_merged_model(
    tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_llama, tmp_path / "merged")
    monkeypatch.chdir(tmp_path)
    exec(python_in_the_readme("from_pretrained"), {})
    assert re.fullmatch(r"[a-z]*\n", capsys.readouterr().out)


def test_the_readme_asks_a_running_service(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "api")
    import playground_app

    code = python_in_the_readme("letterwise.client")
    assert "http://localhost:8000" in code
    with playground_app.serving(playground_app.create_app()) as address:
        exec(code.replace("http://localhost:8000", address), {})
    assert "count=" in capsys.readouterr().out


def test_the_speed_of_the_service_is_shown_once_it_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_performance, "RESULTS", tmp_path)
    for block in ("engines", "service", "overload", "soak", "spell_check", "evaluation_memory", "data_building"):
        assert getattr(generated_performance, block)() == generated_performance.NOT_MEASURED
    times = {"requests_per_second": 1234.5, "p50_ms": 10.4, "p95_ms": 20, "p99_ms": 30, "errors": 0}
    ratio = {"route": "letter_count", "requests_per_second_with_32_users": 6.5, "p50_of_one_user": 0.25}
    measured = {
        "environment": {"created": "2026-01-02T03:04:05+00:00", "cpu": "A Processor", "cores": 2},
        "turns": 3,
        "seconds": 10,
        "rows": [{"stack": "letterwise", "route": "letter_count", "mode": "direct", "users": 32, **times}],
        "ratios_to_plain_stack": [{**ratio, "p95_ms_with_32_users": 20}],
    }
    write_json(tmp_path / "serve.json", measured)
    shown = generated_performance.service()
    assert "| letterwise | letter_count | direct | 32 | 1,234.5 | 10 ms | 20 ms | 30 ms | 0 |" in shown
    assert "6.5 times the requests per second of the plain stack with 32 users, at a p95 of 20 ms" in shown
    assert "Measured on 2026-01-02 on 2 cores of A Processor. Medians of 3 turns of 10 s each." in shown


def test_agreement_with_the_harness_is_shown_once_it_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generated_performance, "RESULTS", tmp_path)
    assert generated_performance.harness_agreement() == ""
    one: dict[str, Any] = {"n": 250, "ours": 0.248, "harness": 0.252, "differing": [{"our_two_best": [0.4, 0.4002]}]}
    measured = {
        **{"adapter": "adapter", "model": "merged", "lm_eval": "0.4.13"},
        "tasks": {"letter_count": one, "letter_position": {**one, "harness": 0.248, "differing": []}},
        "environment": {"base_model": "tiny", "created": "2026-01-02T03:04:05+00:00", "cpu": "A Processor", "cores": 2},
    }
    write_json(tmp_path / "harness_agreement.json", measured)
    shown = generated_performance.harness_agreement()
    assert "| task | questions | our evaluation | harness 0.4.13 | answers that differ |" in shown
    assert "| letter_count | 250 | 24.8% | 25.2% | 1 |" in shown
    assert "Of 500 answers 1 differ; there the two best candidates are at most 0.0002 apart" in shown
    assert "Asked was tiny, merged with the adapter adapter, in float32. Measured on 2026-01-02" in shown
    one["differing"].clear()
    write_json(tmp_path / "harness_agreement.json", measured)
    assert "All 500 answers are the same." in generated_performance.harness_agreement()


def write_speeds(folder: Path) -> None:
    """What the benchmarks of training and evaluation write, as far as the documents show it."""
    environment = {"created": "2026-01-02T03:04:05+00:00", "cpu": "A Processor", "cores": 2}
    ours, large = "letterwise, compiled", "letterwise, compiled, large batches"
    plain, tuned = "Trainer + peft, as they come", "Trainer + peft, tuned"
    best = {"batch": 16, "by_length": True, "attention": "eager", "adapter": "bfloat16"}
    training = {
        "rounds": 2,
        "rows_per_step": {ours: 4, large: 16},
        "tokens_per_second": {ours: 420.1, large: 480.4, plain: 120.1, tuned: 160.1},
        "ceiling_tokens_per_second": 600.0,
        "matrix_product_gflops": 322.8,
        "share_of_ceiling": {ours: 0.7, large: 0.8, plain: 0.2, tuned: 0.267},
        "ratio_to": {plain: 4.0, tuned: 3.0},
        "ratio_of_small_batches_to": {plain: 3.5, tuned: 2.6},
        "peak_rss_mib": {ours: 1536.0, large: 2048.0, plain: 1024.0, tuned: 1024.0},
        "compile_seconds": {"first": 35.4, "loaded": 8.6},
        "share_of_a_step_preparing_its_batch": 0.0004,
        "peers": {plain: {"batch": 8}, tuned: best},
        "tried": [
            {"settings": {"batch": 8}, "problem": None},
            {"settings": best, "problem": None},
            {"settings": {**best, "compile": True}, "problem": "no answer within 240 s"},
        ],
    }
    evaluation = {
        "sample_words": 250,
        "sample_answers": 1750,
        "sample_questions_scored": 500,
        "sample_seconds": {"letterwise": 60.0, "letterwise scores": 10.0, "generate": 270.0, "lm_eval": 35.0},
        "peak_rss_mib": {"letterwise": 1024.0, "letterwise scores": 1024.0, "generate": 1536.0, "lm_eval": 2048.0},
        "batches": {"generate": 16, "lm_eval": 32},
        "by_words": [
            {"words": 125, "answers": 875, "seconds": 30.0},
            {"words": 1000, "answers": 7000, "seconds": 239.6},
        ],
        "agreement": {"bfloat16": {"equal": 1700, "n": 1750}, "float32": {"equal": 350, "n": 350}},
        "scores_agree_with_lm_eval": {"equal": 490, "n": 500},
    }
    scaling = {
        "training_by_rows": [{"rows": rows, "tokens_per_second": 300.0, "peak_rss_mib": 900.0} for rows in (1, 2)],
        "training_by_processes": [{"processes": count, "tokens_per_second": 300.0} for count in (1, 2)],
        "evaluation_by_processes": [{"processes": count, "seconds_per_word": 0.3} for count in (1, 2)],
    }
    first, again = "letterwise, the first time", "letterwise, again"
    quick = {
        "steps": 240,
        "tokens": 120158,
        "seconds": {first: 400.0, plain: 800.0, again: 300.0, tuned: 600.0},
        "peak_rss_mib": {first: 2048.0, plain: 1024.0, again: 2048.0, tuned: 1024.0},
        "ratio_to": {first: {plain: 2.0, tuned: 1.5}, again: {plain: 2.667, tuned: 2.0}},
        "said": {first: ["Compiled: it pays."], again: ["Compiled: kept."]},
    }
    measured: dict[str, dict[str, Any]] = {
        "training_speed": training,
        "quick_run": quick,
        "evaluation_speed": evaluation,
        "scaling": scaling,
    }
    for name, found in measured.items():
        write_json(folder / f"{name}.json", {"environment": environment, **found})


def test_speeds_are_shown_once_they_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generated_speed, "RESULTS", tmp_path)
    monkeypatch.setattr(generated_speed, "FIGURES", tmp_path / "figures")
    blocks = ("training", "quick_run", "evaluation", "growth_of_data")
    assert [getattr(generated_speed, block)() for block in blocks] == [""] * 4
    assert performance_figures.draw(tmp_path, tmp_path / "figures") == []
    write_speeds(tmp_path)
    drawn = performance_figures.draw(tmp_path, tmp_path / "figures")
    assert [path.name for path in drawn] == ["training.png", "evaluation.png"]
    training, quick, evaluation, growth = (getattr(generated_speed, block)() for block in blocks)
    assert "| letterwise, compiled | 420 | 70% | 1.5 GiB |" in training
    assert (
        "Large batches are of 16 packed rows, the others of 4, as in the quick run. At its best letterwise trains 4.0 "
        "times the tokens a second of Trainer + peft, as they come (batches of 8) and 3.0 times the tokens a second "
        "of Trainer + peft, tuned (batches of 16, texts of like length together, attention eager, adapter in "
        "bfloat16); with the quick run's batches 3.5 times those of Trainer + peft, as they come and 2.6 times those "
        "of Trainer + peft, tuned. Each peer has the best of 8 or 16 texts in a batch; the tuned one the best of "
        "3 settings that were tried, of which batches of 16, texts of like length together, compiled, attention "
        "eager, adapter in bfloat16 failed or took too long. The ceiling is 600 tokens/s, from 323 GFLOP/s. Compiling "
        "takes 35 s at first and 9 s from the kept code. Making a batch ready takes 0.04% of a step."
    ) in training
    assert "| Trainer + peft, tuned | 600 s | 1.0 GiB |" in quick
    assert "240 steps and 120,158 tokens" in quick
    assert (
        "It is done by letterwise, the first time in 1/2.0 of the time of Trainer + peft, as they come and 1/1.5 of "
        "the time of Trainer + peft, tuned; letterwise, again in 1/2.7 of the time of Trainer + peft, as they come "
        "and 1/2.0 of the time of Trainer + peft, tuned. Letterwise, the first time: Compiled: it pays. Letterwise, "
        "again: Compiled: kept. Measured on 2026-01-02 on 2 cores of A Processor."
    ) in quick
    everything = (
        "| everything | 1,750 | 60 s, 1.0 GiB | a loop around `generate`, batches of 16 | 270 s, 1.5 GiB | 4.5 |"
    )
    assert everything in evaluation
    assert "All 1,000 words, 7,000 answers, take letterwise 240 s." in evaluation
    assert "on 1,700 of 1,750 in bfloat16; 350 of 350 in float32, and those of the harness on 490 of 500" in evaluation
    assert "(figures/training.png)" in training
    assert "(figures/evaluation.png)" in evaluation
    assert growth == "", "data building is not recorded here"


def test_figures_of_speed_are_those_of_the_recorded_files(tmp_path: Path) -> None:
    drawn = performance_figures.draw(performance_figures.RESULTS, tmp_path)
    kept = sorted(performance_figures.FIGURES.glob("*.png"))
    assert [path.name for path in kept] == sorted(path.name for path in drawn), "run `make docs`"
    for path in kept:
        assert path.stat().st_size < 100_000
        assert np.array_equal(imread(path), imread(tmp_path / path.name)), f"{path.name} is old: run `make docs`"


def test_json_is_broken_only_where_it_does_not_fit_into_a_line() -> None:
    short = {"word": "naïve", "letters": [{"letter": "n", "confidence": 0.5}], "spelling": None}
    assert generated_api.pretty(short) == json.dumps(short, ensure_ascii=False)
    long = {"results": [short, short]}
    assert generated_api.pretty(long).splitlines() == [
        "{",
        '  "results": [',
        f"    {generated_api.pretty(short)},",
        f"    {generated_api.pretty(short)}",
        "  ]",
        "}",
    ]


def test_every_setting_is_explained() -> None:
    tables = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    settings = yaml.safe_load(dump_config(ExperimentConfig(run_name="any")))
    for key, value in settings.items():
        for name in value if isinstance(value, dict) else [key]:
            assert re.search(rf"^\| `{name}` \| .+ \| .+ \| .{{5,}} \|$", tables, re.MULTILINE), (
                f"{name} is not explained"
            )


def test_the_readme_shows_the_recorded_run() -> None:
    folder = generated.recorded_run()
    if folder is None:
        assert generated.NO_RUN in README
    else:
        assert headline_markdown(folder) in README
        raw = json.loads((folder / "evaluation_results.json").read_text(encoding="utf-8"))
        transfer = read_results(folder / "transfer.json", TransferResults)
        assert conclusion(EvaluationResults.model_validate(raw), transfer) in README
        (row,) = re.findall(r"^\| spelling_accuracy \|.*$", README, re.MULTILINE)
        for model in ("base_model", "control_model", "finetuned_model"):
            assert f"| {raw[model]['metrics']['spelling_accuracy']:.1%} [" in row
