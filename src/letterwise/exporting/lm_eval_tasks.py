"""The questions as tasks of EleutherAI's lm-evaluation-harness: YAML and JSON lines in a folder that can be moved.

Knows the harness's task format; does not need the harness, and knows nothing about models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import yaml

from letterwise.errors import LetterwiseError
from letterwise.files import make_folder, write_text
from letterwise.results import QUESTION_TYPES, QuestionType
from letterwise.tasks.questions import Question, direct_prompt

LOADER = '''"""Reads the questions beside this file, wherever the folder lies."""

from pathlib import Path

import datasets


def load(questions, **_):
    """One split, `test`, of the named file."""
    path = Path(__file__).parent / questions
    return datasets.load_dataset("json", data_files={"test": str(path)})
'''


def task_name(question_type: QuestionType) -> str:
    """What the harness calls the task."""
    return f"letterwise_{question_type}"


def export_lm_eval(questions: Sequence[Question], folder: Path) -> list[str]:
    """Write a task for each type of question; the harness finds them with ``--include_path``.

    The harness scores the same candidates after the same few-shot prompt as mode `direct`.

    Args:
        questions: of one split, with their ids.
        folder: where the task files go.

    Returns:
        The names of the tasks.

    Raises:
        LetterwiseError: there are no questions, or the folder cannot be written.
    """
    if not questions:
        raise LetterwiseError("There are no questions to export; build the data with `letterwise data` first.")
    make_folder(folder)
    write_text(folder / "letterwise_questions.py", LOADER)
    names = []
    for question_type in QUESTION_TYPES:
        asked = [question for question in questions if question.question_type == question_type]
        if asked:
            write_text(folder / f"{question_type}.jsonl", "".join(json.dumps(_row(q)) + "\n" for q in asked))
            write_text(folder / f"{task_name(question_type)}.yaml", _task(question_type, asked[0]))
            names.append(task_name(question_type))
    return names


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as they are."""

    def represent_text(self, text: str) -> yaml.Node:
        """A scalar, as a block where it has line breaks."""
        return self.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _Dumper.represent_text)


def _row(question: Question) -> dict[str, object]:
    choices = question.candidates()
    asked = {"letter": question.letter} if question.letter else {"position": question.position}
    return {
        **{"id": question.id, "question": question.question, "word": question.word, **asked},
        **{"choices": choices, "target": choices.index(question.answer)},
    }


def _task(question_type: QuestionType, example: Question) -> str:
    turn = f"Question: {example.question}\nAnswer:"
    settings = {
        "task": task_name(question_type),
        "tag": ["letterwise"],
        "dataset_kwargs": {"questions": f"{question_type}.jsonl"},
        "test_split": "test",
        "output_type": "multiple_choice",
        # The few-shot examples are part of the prompt and fixed, not drawn from a split.
        "description": direct_prompt(example).text.removesuffix(turn),
        "doc_to_text": "Question: {{question}}\nAnswer:",
        "doc_to_choice": "choices",
        "doc_to_target": "target",
        "target_delimiter": " ",
        "num_fewshot": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0},
    }
    text = yaml.dump(settings, Dumper=_Dumper, sort_keys=False, width=120)
    return f"{text}custom_dataset: !function letterwise_questions.load\n"
