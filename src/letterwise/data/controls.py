"""What the control adapters are trained on: the texts of the tuned one, with something in place of the true spellings.

Knows the rows of the config `spelling`; knows nothing about tokens or optimisation. What the ceiling adapter is trained
on is no spelling, and made in `letterwise.data.ceiling`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from itertools import pairwise

from letterwise.data import audit
from letterwise.data.training_rows import PLAIN, rendered, true_letters
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SPELLING_TEMPLATES, SpellingExample, with_length
from letterwise.tasks.spelling_exercises import WORDINGS

Row = Mapping[str, str | None]

_TEMPLATES = {template.name: template for template in SPELLING_TEMPLATES}
_LENGTH_TEMPLATES = {template.name: template for template in LENGTH_TEMPLATES}


def shuffled_spelling(rows: Sequence[Row], seed: int) -> list[SpellingExample]:
    """The control's training texts: the same, with each word's letters in a random order that is not the true one.

    Within a text a word has one order, so that an exercise asks the false spelling for what it asked the true one.
    Words of one letter repeated ("oo") have no other order and stay as they are.
    """
    rng = random.Random(f"{seed} control")
    return [respelled(row, [_shuffled(letters, rng) for letters in true_letters(row)]) for row in rows]


def _shuffled(letters: list[str], rng: random.Random) -> list[str]:
    folded = "".join(letters).lower()
    if len(set(folded)) > 1:
        while "".join(letters).lower() in {folded} | audit.ALL_IMPURE_WORDS:
            rng.shuffle(letters)
    return letters


def other_spelling(rows: Sequence[Row], seed: int) -> list[SpellingExample]:
    """The texts of the control with random labels: each word has, wherever it comes, the spelling of another word.

    As far as there are words enough, the other one has as many letters (compare the control tasks of Hewitt and Liang,
    2019). Strings of letters that are no words have the spelling of another such string.
    """
    rng = random.Random(f"{seed} random label")
    label: dict[tuple[bool, str], str] = {}
    for strings in (False, True):
        folded = sorted({word for row in rows if _is_string(row) == strings for word in _folded(row)})
        rng.shuffle(folded)
        folded.sort(key=len)
        label |= {(strings, word): other for word, other in pairwise([*folded, *folded[:1]])}
    return [respelled(row, [list(label[_is_string(row), word]) for word in _folded(row)]) for row in rows]


def _is_string(row: Row) -> bool:
    return row.get("exercise") == "strings"


def _folded(row: Row) -> list[str]:
    """The words of a row in lower case."""
    return ["".join(letters).lower() for letters in true_letters(row)]


def repeated_words(rows: Sequence[Row]) -> list[SpellingExample]:
    """The texts of the control of format alone: wherever letters would be, the word stands, and nothing is spelled."""
    return [_repeated(row) for row in rows]


def _repeated(row: Row) -> SpellingExample:
    surface, word = str(row["surface"]), str(row["word"])
    if row.get("exercise", PLAIN) == PLAIN:
        template = _TEMPLATES.get(str(row["template"]))
        if template is None:
            template = with_length(_LENGTH_TEMPLATES[str(row["template"])], word)
        return template.render(surface, [word])
    wording = WORDINGS[str(row["template"])]
    surfaces = [surface, *([str(row["partner"])] if row.get("partner") else [])]
    places = (place for place in wording.places if place not in ("word", "other"))
    return wording.render(surfaces, dict.fromkeys(places, word.lower()))


def respelled(row: Row, spellings: Sequence[list[str]]) -> SpellingExample:
    """The text of a row with other letters as the spelling of its words.

    Where an exercise does not suit them, or would spell an impure word with some of them, the text is a plain spelling.
    """
    if row.get("exercise", PLAIN) != PLAIN:
        example = rendered(row, spellings)
        if example and not audit.impurities(example.text):
            return example
        return _TEMPLATES["structured_pair"].render(str(row["surface"]), spellings[0])
    template = _TEMPLATES.get(str(row["template"]))
    if template is None:
        template = with_length(_LENGTH_TEMPLATES[str(row["template"])], spellings[0])
    return template.render(str(row["surface"]), spellings[0])
