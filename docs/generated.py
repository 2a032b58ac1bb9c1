"""Whatever README.md and docs/*.md show that a person should not type: figures, tables, prompts and help texts.

Called from cog blocks in those documents and run by `make docs`. Knows the code and the result files in docs/results/;
knows nothing about the text around a block.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command
from typer.testing import CliRunner

from letterwise.cli import app
from letterwise.config import ExperimentConfig, load_config, read_settings
from letterwise.reporting.summary import NOTHING, conclusion, headline_markdown, number_text, share_text
from letterwise.reporting.templating import markdown_table
from letterwise.results import (
    TRANSFER_FIGURES,
    DataAudit,
    Environment,
    Estimate,
    EvaluationResults,
    TransferResults,
    read_results,
    read_training_log,
)
from letterwise.sweep_config import FIXED, Metric, PrunerSection, StudySection, load_sweep, vary
from letterwise.tasks.questions import count_question, direct_prompt, position_question, spell_first_prompt
from letterwise.tasks.spelling import SEPARATORS, SPELLING_TEMPLATES, SpellingExample, spelling_prompt
from letterwise.tasks.spelling_exercises import EXERCISES

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PREFERRED_RUNS = ("standard", "quick")
NO_RUN = "*No run recorded yet.*"
EXAMPLE = "strawberry"
SEED_OF_EXAMPLES = 1
"""Of the exercises as the documents show them."""


def recorded_run() -> Path | None:
    """The folder of the run that the documents speak of: the standard one if it is there, else the quick one."""
    folders = (RESULTS / name for name in PREFERRED_RUNS)
    return next((folder for folder in folders if (folder / "evaluation_results.json").is_file()), None)


def _of_recorded_run(write: Callable[[Path], str]) -> Callable[[], str]:
    """Write about the recorded run, or say that there is none."""

    @wraps(write)
    def written() -> str:
        folder = recorded_run()
        return write(folder) if folder else NO_RUN

    return written


@_of_recorded_run
def headline(folder: Path) -> str:
    """The table of the recorded run, what it shows, its figure, and how to get it."""
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    transfer = read_results(folder / "transfer.json", TransferResults)
    environment = read_results(folder / "environment.json", Environment)
    commit = f", commit {environment.commit[:12]}" if environment.commit else ""
    return "\n".join(
        [
            f"> {conclusion(results, transfer)}\n",
            headline_markdown(folder),
            f"Made by `{_command(folder)}` with letterwise {environment.letterwise}{commit}.",
            f"{_training_time(folder)}\n",
            _figure(folder, "model_bars.png", "Accuracy of base, control and tuned model beside the baselines"),
        ]
    )


def quick_run_time() -> str:
    """How long training takes in `make run`, if a quick run is recorded."""
    folder = RESULTS / "quick"
    if not (folder / "training_log.jsonl").is_file():
        return "No quick run is recorded yet, so how long it takes is not stated here."
    environment = read_results(folder / "environment.json", Environment)
    where = environment.gpu or f"{environment.cores} cores of {environment.cpu}"
    return f"The last recorded `make run` was on {where}. {_training_time(folder)}"


@_of_recorded_run
def audit_table(folder: Path) -> str:
    """Sizes and leak checks of the recorded run's data."""
    audit = read_results(folder / "data_audit.json", DataAudit)
    shares = audit.template_shares.values()
    rows = [(f"`n.{name}`", f"{value:,}") for name, value in audit.n.items()]
    rows += [(f"`overlaps.{name}`", f"{value:,}") for name, value in audit.overlaps.items()]
    rows += [(f"`purity_violations.{name}`", f"{value:,}") for name, value in audit.purity_violations.items()]
    rows += [(f"`excluded_training_tokens.{name}`", f"{n:,}") for name, n in audit.excluded_training_tokens.items()]
    rows += [(f"`exercise_shares.{name}`", f"{share:.2%}") for name, share in audit.exercise_shares.items()]
    rows.append(("`single_token_held_out_words`", f"{audit.single_token_held_out_words:,}"))
    rows.append(("`template_shares`, lowest to highest", f"{min(shares):.2%} to {max(shares):.2%}"))
    rows.append(("`passed`", str(audit.passed).lower()))
    return markdown_table(("data_audit.json", f"run `{folder.name}`"), rows)


@_of_recorded_run
def audit_summary(folder: Path) -> str:
    """The audit of the recorded run in a few lines."""
    audit = read_results(folder / "data_audit.json", DataAudit)
    n = audit.n
    return (
        f"In run `{folder.name}`: {n['training_words']:,} training words, {n['training_surface_forms']:,} tokens, "
        f"gave {n['training_texts']:,} texts; {n['validation_words']:,} validation and {n['test_words']:,} test "
        f"words are held out. {sum(audit.overlaps.values())} words are shared between any two of these sets, "
        f"{sum(audit.purity_violations.values())} texts are impure."
    )


@_of_recorded_run
def training_progress(folder: Path) -> str:
    """The recorded run's evaluations on validation words during training, as a table and a figure."""
    entries = [e for e in read_training_log(folder / "training_log.jsonl") if e.model == "finetuned" and e.evaluation]
    metrics = ("spelling_accuracy", "character_level_accuracy", "letter_count_accuracy", "letter_position_accuracy")
    sizes = [(entries[-1].evaluation_n or {}).get(metric) for metric in metrics]
    header = ["step", "tokens", *(f"{metric} (n = {size})" for metric, size in zip(metrics, sizes, strict=True))]
    rows = []
    for entry in entries:
        values = [(entry.evaluation or {}).get(metric) for metric in metrics]
        shares = [NOTHING if value is None else share_text(value) for value in values]
        rows.append((str(entry.step), f"{entry.tokens:,}", *shares))
    figure = _figure(folder, "learning_curves.png", "Spelling, count and position accuracy over the training steps")
    return f"{markdown_table(header, rows)}\n\n{figure}"


@_of_recorded_run
def answer_modes(folder: Path) -> str:
    """The figure of the recorded run's accuracies in each answer mode."""
    return _figure(folder, "answer_modes.png", "Count and position accuracy of each model in each answer mode")


@_of_recorded_run
def transfer_table(folder: Path) -> str:
    """Every estimate of the recorded run's transfer.json, the missing ones with their reason."""
    transfer = read_results(folder / "transfer.json", TransferResults)
    rows = [
        _estimate_row(figure, key, estimate)
        for figure in TRANSFER_FIGURES
        for key, estimate in getattr(transfer, figure).items()
    ]
    rows.append(_estimate_row("generalization", "spelling", transfer.generalization))
    return markdown_table(("figure", "of", "value and 95% interval", "n"), rows)


def help_texts() -> str:
    """`--help` of every command."""
    runner = CliRunner()
    # As wide as the documents, whatever the terminal.
    plain = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    sections = []
    for words in command_paths(get_command(app)):
        result = runner.invoke(app, [*words, "--help"], prog_name="letterwise", env=plain)
        text = "\n".join(line.rstrip() for line in result.output.strip("\n").splitlines())
        sections.append(f"## letterwise {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(sections).rstrip("\n")


def command_paths(command: Any) -> list[tuple[str, ...]]:
    """What is typed for each command: of a group, its name and that of each of its own commands."""
    own = getattr(command, "commands", {})
    return [(name, *rest) for name, inner in own.items() for rest in command_paths(inner) or [()]]


def settings_tables() -> str:
    """Every setting with its default, what it may be, and what it does."""
    schema = ExperimentConfig.model_json_schema()
    sections = {key: value for key, value in schema["properties"].items() if "$ref" in value}
    own = {key: value for key, value in schema["properties"].items() if key not in sections}
    parts = [_settings_table(own)]
    for key, value in sections.items():
        section = schema["$defs"][value["$ref"].rpartition("/")[2]]
        parts.append(f"## `{key}`\n\n{section['description']}\n\n{_settings_table(section['properties'])}")
    return "\n\n".join(parts)


def sweep_settings() -> str:
    """Every setting of a study and its pruner."""
    schemas = (StudySection.model_json_schema(), PrunerSection.model_json_schema())
    study, pruner = ({k: v for k, v in schema["properties"].items() if "$ref" not in v} for schema in schemas)
    nested = {f"pruner.{key}": value for key, value in pruner.items()}
    return _settings_table({**study, **nested})


def sweep_metrics() -> str:
    """What a study can raise."""
    return ", ".join(f"`{metric}`" for metric in get_args(Metric))


def fixed_settings() -> str:
    """What may not vary, and why."""
    return markdown_table(("setting", "why it may not vary"), [(f"`{path}`", why) for path, why in FIXED.items()])


def study_sweeps() -> str:
    """The sweeps in configs/study/ with the comment that each begins with, their variants, and what these train on."""
    rows = []
    for path in sorted((ROOT / "configs" / "study").glob("*.yaml")):
        if "study" in read_settings(path):
            sweep = load_sweep(path)
            comment = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
            link = f"[`configs/study/{path.name}`](../configs/study/{path.name})"
            tokens = sum(
                trial.max_steps * trial.batch_size * trial.gradient_accumulation * trial.row_length
                for trial in (vary(sweep.experiment, overrides).training for overrides in sweep.variants.values())
            ) * len(sweep.seeds)
            rows.append((link, comment, ", ".join(f"`{name}`" for name in sweep.variants), f"{tokens / 1e6:.1f} M"))
    return markdown_table(("sweep", "asks", "variants", "training tokens"), rows)


def shipped_sweep() -> str:
    """The ready sweep."""
    text = (ROOT / "configs" / "sweep.yaml").read_text(encoding="utf-8")
    return f"```yaml\n{text.rstrip()}\n```"


def experiments() -> list[Path]:
    """The files in configs/ that `letterwise run` takes."""
    return [path for path in sorted((ROOT / "configs").glob("*.yaml")) if "study" not in read_settings(path)]


def ready_configurations() -> str:
    """The files in configs/ with the comment that each begins with."""
    rows = []
    for path in experiments():
        comment = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        rows.append((f"[`configs/{path.name}`](../configs/{path.name})", f"`{load_config(path).run_name}`", comment))
    return markdown_table(("file", "run_name", "for"), rows)


def template_table() -> str:
    """How many spelling templates there are, by tone, direction and separator."""
    tones = list(dict.fromkeys(template.tone for template in SPELLING_TEMPLATES))
    rows = []
    for tone in [*tones, None]:
        chosen = [template for template in SPELLING_TEMPLATES if tone in (None, template.tone)]
        directions = Counter(template.direction for template in chosen)
        separators = Counter(template.separator for template in chosen)
        upper = sum(template.letter_case == "upper" for template in chosen)
        numbers = [
            *(directions["word_first"], directions["spelling_first"]),
            *(separators[name] for name in SEPARATORS),
            *(upper, len(chosen)),
        ]
        rows.append((tone or "all", *map(str, numbers)))
    return markdown_table(("tone", "word first", "spelling first", *SEPARATORS, "capitals", "templates"), rows)


def rendered_templates() -> str:
    """The first template of each tone and one that goes from letters to word, with the learned part marked."""
    first = {template.tone: template for template in reversed(SPELLING_TEMPLATES)}
    backwards = next(template for template in SPELLING_TEMPLATES if template.direction == "spelling_first")
    texts = []
    for template in [*(first[tone] for tone in dict.fromkeys(t.tone for t in SPELLING_TEMPLATES)), backwards]:
        texts.append(f"# {template.name}\n{_marked(template.render(f' {EXAMPLE}', EXAMPLE))}")
    return _code("\n\n".join(texts))


def exercise_table() -> str:
    """Every spelling exercise with its level of purity and why it is spelling."""
    rows = [(f"`{each.name}`", each.purity, each.argument) for each in EXERCISES.values()]
    return markdown_table(("exercise", "purity", "why it is spelling"), rows)


def rendered_exercises() -> str:
    """The first wording of each exercise, filled, with the learned part marked."""
    texts = []
    for exercise in EXERCISES.values():
        surfaces = {"strings": (" qvqxe",), "growing": (" berry",)}.get(exercise.name, (f" {EXAMPLE}", " blueberry"))
        spellings = [surface.strip() for surface in surfaces]
        example = exercise.render(exercise.wordings[0], surfaces, spellings, random.Random(SEED_OF_EXAMPLES))
        if example:
            texts.append(f"# {exercise.name}\n{_marked(example)}")
    return _code("\n\n".join(texts))


def _marked(example: SpellingExample) -> str:
    """A training text with what is learned between brackets."""
    ((start, end),) = example.spans
    return f"{example.text[:start]}⟦{example.text[start:end]}⟧{example.text[end:]}".rstrip()


def prompt_of_spelling() -> str:
    """The prompt by which evaluation asks for a spelling."""
    return _code(spelling_prompt(EXAMPLE).text)


def prompt_of_count() -> str:
    """The prompt of a count question in mode direct."""
    return _code(direct_prompt(count_question(EXAMPLE, "r")).text)


def prompt_of_position() -> str:
    """The prompt of a position question in mode direct."""
    return _code(direct_prompt(position_question(EXAMPLE, 3)).text)


def prompt_of_spell_first() -> str:
    """The last lines of a count question's prompt in mode spell_first, after a right spelling."""
    return _code(spell_first_prompt(count_question(EXAMPLE, "r"), EXAMPLE).body.strip())


def parsed_answers() -> str:
    """What the parsers read from texts such as models write."""
    texts = {
        count_question(EXAMPLE, "r"): (
            *("3", "The answer is 3.", "There are three r's.", "It has 10 letters, 2 of them r's."),
            *("None.", "I am not sure."),
        ),
        position_question(EXAMPLE, 3): (
            *("r", "The third letter is 'r'.", "It is the letter R.", "s-t-r, so it's an r."),
            "A strawberry is a fruit.",
        ),
    }
    rows = []
    for question, written in texts.items():
        for text in written:
            answer = question.parse(text)
            rows.append((question.question_type, text, "no answer" if answer is None else f"`{answer}`"))
    return markdown_table(("question", "text", "read as"), rows)


def _figure(folder: Path, name: str, description: str) -> str:
    """An image, as README.md has to link to it."""
    return f"![{description}]({(folder / name).relative_to(ROOT).as_posix()})"


def _command(folder: Path) -> str:
    """What to type for the same run."""
    for path in experiments():
        if load_config(path).run_name == folder.name:
            return f"letterwise run --config configs/{path.name}"
    return f"letterwise run --config {(folder / 'config.yaml').relative_to(ROOT).as_posix()}"


def _training_time(folder: Path) -> str:
    last = {entry.model: entry for entry in read_training_log(folder / "training_log.jsonl")}
    parts = [
        f"{name} adapter {entry.seconds / 60:.1f} minutes ({entry.step:,} steps, {entry.tokens:,} tokens)"
        for name, entry in (("tuned", last.get("finetuned")), ("control", last.get("control")))
        if entry
    ]
    return f"Training time, without evaluation: {', '.join(parts)}."


def _estimate_row(figure: str, key: str, estimate: Estimate) -> tuple[str, ...]:
    value = estimate.reason or NOTHING if estimate.value is None else number_text(estimate.value, estimate.interval)
    return f"`{figure}`", key, value, f"{estimate.n:,}" if estimate.n is not None else NOTHING


def _settings_table(properties: dict[str, dict[str, Any]]) -> str:
    rows = [
        (
            f"`{key}`",
            f"`{_yaml(value['default'])}`" if "default" in value else "required",
            _allowed(value),
            " ".join(value["description"].split()).replace("<", "&lt;"),
        )
        for key, value in properties.items()
    ]
    return markdown_table(("setting", "default", "allowed", "meaning"), rows)


def _allowed(schema: dict[str, Any]) -> str:
    """A JSON schema in words."""
    if "anyOf" in schema:
        return " or ".join(map(_allowed, schema["anyOf"]))
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema["type"] == "object":
        return f"mapping of {_allowed(schema['propertyNames'])} to {_allowed(schema['additionalProperties'])}"
    if schema["type"] == "array":
        return f"list of {_allowed(schema['items'])}"
    if "pattern" in schema:
        return f"`{schema['pattern']}`, at most {schema['maxLength']} characters"
    name = {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}.get(schema["type"], schema["type"])
    name = "path" if schema.get("format") == "path" else name
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {_yaml(schema[limit])}" for limit, sign in signs.items() if limit in schema]
    return " ".join([name, ", ".join(limits)]).strip()


def _yaml(value: object) -> str:
    """A value as one would write it in the YAML file."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {_yaml(inner)}' for name, inner in value.items())}}}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def _code(text: str) -> str:
    return f"```text\n{text}\n```"
