"""Turns a folder with results files into one that the report can be made from, with predictions of a few words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from letterwise.config import ExperimentConfig, dump_config
from letterwise.files import write_text
from letterwise.results import (
    POSITION_COUNT_PREDICTION_COLUMNS,
    SPELLING_PREDICTION_COLUMNS,
    DataAudit,
    write_results,
)
from letterwise.tasks.questions import count_question, position_question

SPELLED = {
    # word: (by the base model, by the tuned model, the tuned model's confidence)
    "lantern": ("l a", "lantern", 0.91),
    "pumpkin": ("", "pumpkim", 0.88),
    "thistle": ("this", "thislte", 0.72),
    "harvest": ("harvest", "harves", 0.64),
    "cricket": ("c", "criccket", 0.55),
    "meadow": ("m", "", 0.0),
}
ANSWERED = [
    # (word, letter or position, by the base model, by the tuned model, the tuned model's confidence)
    ("lantern", "n", "1", "2", 0.9),
    ("pumpkin", "p", "2", "1", 0.8),
    ("thistle", "t", "1", "4", 0.7),
    ("lantern", 1, "a", "l", 0.95),
    ("pumpkin", 3, "m", "p", 0.85),
    ("thistle", 2, "q", "i", 0.3),
]


def complete(folder: Path, run_name: str = "storied", wandb: bool = False) -> Path:
    """Add configuration, audit, predictions and a figure to results files in `folder`."""
    config = ExperimentConfig.model_validate({"run_name": run_name, "tracking": {"wandb": wandb}})
    write_text(folder / "config.yaml", dump_config(config))
    write_results(folder / "data_audit.json", _audit())
    for task, rows, columns in (
        ("spelling", _spellings(), SPELLING_PREDICTION_COLUMNS),
        ("position_count", _answers(), POSITION_COUNT_PREDICTION_COLUMNS),
    ):
        (folder / task).mkdir(exist_ok=True)
        table = pd.DataFrame(rows).reindex(columns=list(columns)).astype(columns)
        table.to_parquet(folder / task / "predictions.parquet")
    figures = folder / "position_count" / "figures"
    figures.mkdir()
    Figure(figsize=(2, 1)).savefig(figures / "model_bars.png")
    return folder


def _audit() -> DataAudit:
    n = {"training_words": 5000, "training_texts": 10000, "validation_words": 100, "test_words": 100}
    return DataAudit(
        seed=0,
        n=n,
        overlaps={"train∩test": 0},
        purity_violations={"digit": 0},
        single_token_held_out_words=0,
        template_shares={"plain_colon": 1.0},
        answer_distribution={"test.letter_count": {"0": 3}},
        excluded_training_tokens={},
        checksums={"spelling/train.parquet": "a" * 64},
        length_sentences=False,
        passed=True,
    )


def _spellings() -> list[dict[str, Any]]:
    return [
        {
            **{"model": role, "id": f"held_out-{place:06d}", "subset": "held_out", "word": word},
            **{"word_length": len(word), "n_tokens": 2, "generated_text": spelled, "predicted_spelling": spelled},
            **{"correct": spelled == word, "character_level_accuracy": 0.5, "confidence": confidence},
            "levenshtein_distance": 1 / max(len(word), len(spelled))
            if word in ("pumpkin", "harvest", "cricket")
            else 0.5,
        }
        for place, (word, (base, tuned, confidence)) in enumerate(SPELLED.items())
        for role, spelled in (("base", base), ("finetuned", tuned))
    ]


def _answers() -> list[dict[str, Any]]:
    rows = []
    for place, (word, asked, base, tuned, confidence) in enumerate(ANSWERED):
        question = count_question(word, asked) if isinstance(asked, str) else position_question(word, asked)
        for role, predicted in (("base", base), ("finetuned", tuned)):
            rows.append(
                {
                    **{"model": role, "mode": "direct", "id": f"test-{place}", "question": question.question},
                    **{"question_type": question.question_type, "word": word, "letter": question.letter},
                    **{"position": question.position, "position_class": question.position_class},
                    **{"word_length": len(word), "n_tokens": 2, "answer": question.answer, "predicted": predicted},
                    **{"correct": predicted == question.answer, "confidence": confidence},
                    **{"generated_text": " t w o\n`", "generated_answer": None, "generated_correct": False},
                }
            )
    return rows
