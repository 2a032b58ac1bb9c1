"""What the documents show of commands and settings: help texts, every setting, the ready configurations and sweeps.

Called from cog blocks and run by `make docs`. Knows the command line, the schemas of the settings and configs/.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command
from typer.testing import CliRunner

from letterwise.cli import app
from letterwise.config import ExperimentConfig, load_config, read_settings
from letterwise.reporting.templating import markdown_table
from letterwise.sweep_config import FIXED, PrunerSection, StudySection, load_sweep, vary

ROOT = Path(__file__).parents[1]


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
