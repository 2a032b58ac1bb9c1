"""The dataset card and `eval.yaml`: written from the files of a bundle, so that no figure in them is typed.

Knows the files of a bundle and the columns of the data; knows nothing about the Hub.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from huggingface_hub import DatasetCard, DatasetCardData

from letterwise.config import load_config
from letterwise.publication import BUNDLE_FILE, Bundle, files_in
from letterwise.reporting.exercise_mix import mix_sentences, template_sentences
from letterwise.reporting.templating import markdown_table, render
from letterwise.results import QUESTION_TYPES, DataAudit, Environment, read_results
from letterwise.tasks.questions import FEW_SHOT_WORDS
from letterwise.tasks.spelling import SPELLING_FEW_SHOT

CONFIGS: dict[str, tuple[str, ...]] = {
    "spelling": ("train", "validation", "test"),
    "position_count": ("validation", "test"),
    "letter_count": ("test",),
    "letter_position": ("test",),
}
"""Configs and their splits; the last two are `position_count`'s test questions by type, for `eval.yaml`."""
TAGS = ("letterwise", "spelling", "character-level", "tokenization", "benchmark")
FIGURES = {
    "token_distribution.png": "Letter tokens of the vocabulary by length and surface form",
    "word_lengths.png": "Words of each split by length",
    "answers.png": "Questions by answer class",
}
COLUMNS = {
    "id": "identity within the config",
    "word": "the word, without surrounding space",
    "surface": "the word as it stands in the text, with its leading space where it has one",
    "text": "the whole training text, or prompt and true answer of a held-out word",
    "prompt": "the part that is given",
    "completion": "the part to be produced; the loss falls on it alone",
    "exercise": "spelling for a plain spelling, or the name of the spelling exercise",
    "partner": "the other word of an exercise about two, as it stands in the text; null elsewhere",
    "template": "name of the template",
    "tone": "plain, narrative, formal, emphatic or structured",
    "direction": "whether the word or its letters come first",
    "separator": "what stands between letters",
    "letter_case": "case of the letters",
    "question": "the question as it is put",
    "answer": "the truth: a number in digits, or a lower-case letter",
    "question_type": "letter_count or letter_position",
    "letter": "the letter to count; null for letter_position",
    "position": "the position asked for, from 1; null for letter_count",
}
_LIMITS = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_INSTRUCTIONS = {
    "spelling": "Spell the word '{prompt}': write its letters in order, lower-case, separated by single spaces, and "
    "nothing else.",
    "letter_count": "{prompt}\nAnswer with a number in digits, and nothing else.",
    "letter_position": "{prompt}\nAnswer with one lower-case letter, and nothing else.",
}
_SCORERS: dict[str, dict[str, Any]] = {
    "spelling": {"location": "exact"},
    "letter_count": {"location": "end", "numeric": True},
    "letter_position": {"location": "exact"},
}


def write_dataset_card(folder: Path) -> None:
    """Write `README.md` into a bundle that holds everything else."""
    DatasetCard(dataset_card(folder)).save(folder / "README.md")


def dataset_card(folder: Path) -> str:
    """The card of a bundle, from its other files.

    Raises:
        LetterwiseError: one of them is missing or broken.
    """
    bundle = read_results(folder / BUNDLE_FILE, Bundle)
    audit = read_results(folder / "data_audit.json", DataAudit)
    config = load_config(folder / "config.yaml")
    files = files_in(folder)
    tables = {name: pq.read_schema(folder / name / f"{splits[-1]}.parquet") for name, splits in CONFIGS.items()}
    sizes = {
        (config, split): pq.read_metadata(folder / config / f"{split}.parquet").num_rows
        for config, splits in CONFIGS.items()
        for split in splits
    }
    examples = {config: pq.read_table(folder / config / "test.parquet").slice(0, 1).to_pylist() for config in CONFIGS}
    return render(
        "dataset_card.md.jinja",
        card_data=_metadata(bundle, sum(sizes.values()), tables).to_yaml(),
        bundle=bundle,
        environment=read_results(folder / "environment.json", Environment),
        config=config,
        audit=audit,
        sizes=markdown_table(
            ("config", "split", "rows"), [(f"`{name}`", split, f"{rows:,}") for (name, split), rows in sizes.items()]
        ),
        columns={
            config: markdown_table(
                ("column", "type", "meaning"),
                [(f"`{name}`", str(tables[config].field(name).type), COLUMNS[name]) for name in tables[config].names],
            )
            for config in ("spelling", "position_count")
        },
        examples={name: yaml.safe_dump(rows[0], sort_keys=False).strip() for name, rows in examples.items() if rows},
        audit_table=_audit(audit),
        templates=template_sentences(config.data),
        mix=mix_sentences(audit),
        extra=audit.n.get("extra_training_words", 0),
        answers=_answers(audit),
        few_shot=sorted({*FEW_SHOT_WORDS, *SPELLING_FEW_SHOT}),
        figures={name: text for name, text in FIGURES.items() if f"figures/{name}" in files},
    )


def eval_yaml() -> str:
    """What makes the dataset a benchmark of the Hub: three tasks for Inspect AI, with few words of instruction."""
    tasks = [
        {
            "id": task,
            "config": task,
            "split": "test",
            "field_spec": {
                "input": "word" if task == "spelling" else "question",
                "target": "completion" if task == "spelling" else "answer",
                "metadata": ["id"],
            },
            "solvers": [{"name": "prompt_template", "args": {"template": template}}, {"name": "generate"}],
            "scorers": [{"name": "match", "args": _SCORERS[task]}],
        }
        for task, template in _INSTRUCTIONS.items()
    ]
    benchmark = {
        "name": "letterwise",
        "description": "Spelling of held-out words, letter counts and letter positions: what a tokenized language "
        "model knows about the letters inside its tokens.",
        "evaluation_framework": "inspect-ai",
        "tasks": tasks,
    }
    return yaml.safe_dump(benchmark, sort_keys=False, allow_unicode=True, width=120)


def _metadata(bundle: Bundle, rows: int, tables: dict[str, Any]) -> DatasetCardData:
    other = bundle.license == "other"
    return DatasetCardData(
        language=["en"],
        license=bundle.license,
        license_name="sources" if other else None,
        license_link="LICENSE" if other else None,
        pretty_name=f"letterwise {bundle.run_name}: spelling, letter counts and letter positions",
        annotations_creators=["machine-generated"],
        language_creators=["found", "machine-generated"],
        multilinguality=["monolingual"],
        source_datasets=["original"],
        task_categories=["text-generation", "question-answering"],
        size_categories=[next((name for limit, name in _LIMITS if rows < limit), "n>1M")],
        tags=[*TAGS, *bundle.tags],
        configs=[
            {
                "config_name": config,
                "data_files": [{"split": split, "path": f"{config}/{split}.parquet"} for split in splits],
                **({"default": True} if config == "spelling" else {}),
            }
            for config, splits in CONFIGS.items()
        ],
        dataset_info=[
            {"config_name": config, "features": [{"name": f.name, "dtype": str(f.type)} for f in schema]}
            for config, schema in tables.items()
        ],
    )


def _audit(audit: DataAudit) -> str:
    rows = [(f"`n.{name}`", f"{value:,}") for name, value in audit.n.items()]
    rows += [(f"`overlaps.{name}`", f"{value:,}") for name, value in audit.overlaps.items()]
    rows += [(f"`purity_violations.{name}`", f"{value:,}") for name, value in audit.purity_violations.items()]
    rows += [(f"`excluded_training_tokens.{name}`", f"{n:,}") for name, n in audit.excluded_training_tokens.items()]
    rows.append(("`single_token_held_out_words`", f"{audit.single_token_held_out_words:,}"))
    rows += [(f"`exercise_shares.{name}`", f"{share:.2%}") for name, share in audit.exercise_shares.items()]
    shares = audit.template_shares.values()
    rows.append(("`template_shares`, lowest to highest", f"{min(shares):.2%} to {max(shares):.2%}"))
    rows.append(("`passed`", str(audit.passed).lower()))
    return markdown_table(("figure of `data_audit.json`", "value"), rows)


def _answers(audit: DataAudit) -> str:
    rows = [
        (split, name, ", ".join(f"{answer}: {count:,}" for answer, count in counts.items()))
        for key, counts in audit.answer_distribution.items()
        for split, _, name in [key.partition(".")]
        if name in QUESTION_TYPES
    ]
    return markdown_table(("split", "question type", "questions by answer"), rows)
