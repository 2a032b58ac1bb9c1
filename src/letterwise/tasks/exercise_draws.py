"""What each spelling exercise asks for and what is to be produced, drawn at random; the letters may be true or not.

Every function takes the words as they are written, lower- or upper-case, the lower-case letters of each, and what
chooses; it gives the text of each place in a wording, or None where the exercise does not suit the words. For other
letters in the same places it draws the same numbers. Knows nothing about wordings.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise, zip_longest
from string import ascii_lowercase

Words = Sequence[str]
Spellings = Sequence[Sequence[str]]
Fields = dict[str, str]
"""Place in a wording → what is written there."""

GAP = "_"
LONGEST_GROWING = 8
"""Letters; the text grows with the square of it."""


def letter_string(rng: random.Random) -> str:
    """Three to ten letters that make no word on purpose; some of them recur."""
    kinds = rng.sample(ascii_lowercase, rng.randint(3, 7))
    return "".join(rng.choices(kinds, k=rng.randint(3, 10)))


def _spaced(letters: Sequence[str]) -> str:
    return " ".join(letters)


def whole(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters of the word, in order."""
    return {"answer": _spaced(spellings[0])}


def continuation(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """Some letters that a spelling begins with, and the rest of it."""
    letters = spellings[0]
    if len(letters) < 3:
        return None
    cut = rng.randint(1, len(letters) - 1)
    return {"given": _spaced(letters[:cut]), "answer": _spaced(letters[cut:])}


def _unmistakable(letters: Sequence[str]) -> list[int]:
    """Places of the letters that recur nowhere in the word."""
    return [place for place, letter in enumerate(letters) if letters.count(letter) == 1]


def from_letter(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A letter that does not recur, and the spelling from it on."""
    letters = spellings[0]
    places = [place for place in _unmistakable(letters) if place]
    if not places:
        return None
    start = rng.choice(places)
    return {"given": letters[start], "answer": _spaced(letters[start:])}


def stretch(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """Letters that do not recur, and the spelling from the one to the other."""
    letters = spellings[0]
    places = _unmistakable(letters)
    if len(places) < 3:
        return None
    start, end = sorted(rng.sample(places, 2))
    return {"given": letters[start], "until": letters[end], "answer": _spaced(letters[start : end + 1])}


def backwards(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters in the opposite direction."""
    return {"answer": _spaced(spellings[0][::-1])}


def cloze(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A spelling with gaps, and the letters that belong there."""
    letters = spellings[0]
    if len(letters) < 3:
        return None
    gaps = sorted(rng.sample(range(len(letters)), rng.randint(1, len(letters) // 3)))
    shown = [GAP if place in gaps else letter for place, letter in enumerate(letters)]
    return {"given": _spaced(shown), "answer": _spaced([letters[place] for place in gaps])}


def chunks(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The word in two or three parts of two or more letters, and the spelling of each."""
    word, letters = words[0].lower(), spellings[0]
    shorter = min(len(word), len(letters))
    if shorter < 4:
        return None
    cuts = [rng.randint(2, shorter - 2)]
    if shorter - cuts[0] >= 4 and rng.random() < 0.5:
        cuts.append(rng.randint(cuts[0] + 2, shorter - 2))
    starts, ends = [0, *cuts], [*cuts, None]
    parts = [(word[start:end], letters[start:end]) for start, end in zip(starts, ends, strict=True)]
    return {
        "given": " + ".join(part for part, _ in parts),
        "answer": " + ".join(_spaced(spelled) for _, spelled in parts),
    }


def growing(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The spelling again and again, each time a letter further; of short words only."""
    letters = spellings[0]
    if len(letters) > LONGEST_GROWING:
        return None
    return {"answer": ", ".join(_spaced(letters[:end]) for end in range(1, len(letters) + 1))}


def side_by_side(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters of two words in pairs; of the longer one the rest stands alone."""
    one, other = spellings
    return {"answer": ", ".join(f"{a or ''} {b or ''}".strip() for a, b in zip_longest(one, other))}


def proofread(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A spelling with one letter replaced, dropped or doubled, and the right one."""
    letters = spellings[0]
    if len(letters) < 3:
        return None
    place = rng.randrange(len(letters))
    mistake = rng.choice(("replaced", "dropped", "doubled"))
    other = rng.choice([letter for letter in ascii_lowercase if letter != letters[place]])
    instead = {"replaced": [other], "dropped": [], "doubled": [letters[place]] * 2}[mistake]
    wrong = [*letters[:place], *instead, *letters[place + 1 :]]
    return {"given": _spaced(wrong), "answer": _spaced(letters)}


def neighbours(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A letter, and each of its occurrences with the letter after it."""
    letters = spellings[0]
    if len(letters) < 3:
        return None
    chosen = letters[rng.randrange(len(letters) - 1)]
    pairs = [f"{chosen} {after}" for letter, after in pairwise(letters) if letter == chosen]
    return {"given": chosen, "answer": ", ".join(pairs)}


def shared(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters that both words have, in the order of the one, without repetition."""
    one, other = spellings
    both = [letter for letter in dict.fromkeys(one) if letter in other]
    return {"answer": _spaced(both)} if both else None


def alphabetical(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters in alphabetical order."""
    return {"answer": _spaced(sorted(spellings[0]))}


def grouped(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """The letters, like with like, in the order in which they come up."""
    letters = spellings[0]
    return {"answer": ", ".join(_spaced([kind] * letters.count(kind)) for kind in dict.fromkeys(letters))}


def without(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A letter, and the spelling without it."""
    letters = spellings[0]
    dropped = rng.choice(letters)
    left = [letter for letter in letters if letter != dropped]
    return {"given": dropped, "answer": _spaced(left)} if left else None


def picked(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A letter, and all of its occurrences."""
    letters = spellings[0]
    kept = rng.choice(letters)  # a letter that recurs is chosen the more often
    return {"given": kept, "answer": _spaced([letter for letter in letters if letter == kept])}


def hangman(words: Words, spellings: Spellings, rng: random.Random) -> Fields | None:
    """A letter, in the word or not, and the spelling in which all others are hidden."""
    letters = spellings[0]
    guess = rng.choice(letters) if rng.random() < 0.75 else rng.choice(ascii_lowercase)
    return {"given": guess, "answer": _spaced([letter if letter == guess else GAP for letter in letters])}
