"""What the documents show of texts and prompts: spelling templates, exercises, what is asked, and how answers are read.

Called from cog blocks and run by `make docs`. Knows the tasks; knows no run.
"""

from __future__ import annotations

import random
from collections import Counter

from letterwise.reporting.templating import markdown_table
from letterwise.tasks.questions import count_question, direct_prompt, position_question, spell_first_prompt
from letterwise.tasks.spelling import SEPARATORS, SPELLING_TEMPLATES, SpellingExample, spelling_prompt
from letterwise.tasks.spelling_exercises import EXERCISES

EXAMPLE = "strawberry"
SEED_OF_EXAMPLES = 1
"""Of the exercises as the documents show them."""


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


def _code(text: str) -> str:
    return f"```text\n{text}\n```"
