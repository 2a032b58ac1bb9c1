"""What the ceiling adapter is trained on: the very questions that are evaluated, about training words.

IMPURE on purpose. The adapter shows what the architecture could learn from as many tokens; no other adapter may be
trained on these texts, and it may not be published. Knows the rows of the config `spelling`; knows nothing about
held-out words.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from letterwise.tasks.questions import Question, direct_prompt, make_questions
from letterwise.tasks.spelling import SpellingExample


def question_texts(rows: Sequence[Mapping[str, str | None]], seed: int) -> tuple[list[SpellingExample], list[str]]:
    """As many questions as rows, half of them about counts and half about positions, in the form of mode `direct`.

    They are balanced as the evaluated ones are, and are about the words of the rows, which the audit keeps apart from
    the held-out ones.

    Returns:
        The texts, in random order, with the answer to be learned, and the type of question of each.

    Raises:
        LetterwiseError: the words are too few for that many different questions.
    """
    words = sorted({str(row["word"]).lower() for row in rows if row.get("exercise") != "strings"})
    positions = len(rows) // 2
    questions = make_questions(words, len(rows) - positions, positions, seed, "ceiling")
    random.Random(f"{seed} ceiling").shuffle(questions)
    return [_text(question) for question in questions], [question.question_type for question in questions]


def _text(question: Question) -> SpellingExample:
    asked = direct_prompt(question)
    before = (asked.lead + asked.body).lstrip("\n")  # without the examples
    end = len(before) + 1 + len(question.answer)
    return SpellingExample(f"{before} {question.answer}\n", ((len(before), end),))
