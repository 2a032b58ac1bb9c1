"""The training texts of an experiment as rows of the config `spelling`: plain spelling and spelling exercises.

Knows which words are dealt to which templates; knows nothing about files, and of what is forbidden only what the audit
says of a row.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from letterwise.data import audit
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.tasks.exercise_draws import letter_string
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SpellingExample, SpellingTemplate, with_length
from letterwise.tasks.spelling_exercises import EXERCISES, WORDINGS, Exercise, Wording
from letterwise.tasks.template_mix import TemplateGroup, template_groups
from letterwise.words.vocabulary import LetterToken

PLAIN = "spelling"
"""The exercise that is none: a word and its spelling."""
SHORTEST_SPLIT_WORD = 4
"""Letters; of shorter words the tokenizer mostly leaves single letters."""
TRIES = 2000
"""Draws after which an exercise is taken to suit no word."""
Row = dict[str, str | None]
Item = TypeVar("Item")


def build_rows(
    config: DataConfig,
    tokens: Sequence[LetterToken],
    uses: Mapping[str, int],
    extra: Sequence[str],
    forbidden: Collection[str],
    seed: int,
) -> Iterator[Row]:
    """The rows of the training split, made as they are asked for.

    Args:
        config: how many, and of what.
        tokens: training words.
        uses: in how many other dictionary words each token occurs.
        extra: further training words, lower-case, which are no tokens.
        forbidden: lower-case words that no exercise may show, neither joined nor letter by letter.
        seed: of everything that is drawn.

    Raises:
        LetterwiseError: there is no word that an exercise suits, or no template of the kind that is asked for.
    """
    rng = random.Random(f"{seed} training texts")
    surfaces = _dealt_surfaces(config, tokens, uses, extra, seed)
    rng.shuffle(surfaces)
    names = sorted(config.exercises)
    weights = [config.exercises[name] for name in names]
    dealt = [str(names[place]) for place in _dealt(weights, config.train_examples, f"{seed} exercises")]
    templates = _dealt_templates(template_groups(config), dealt.count(PLAIN), rng, seed)
    exercises = ExerciseRows(surfaces, forbidden, seed)
    for number, (surface, exercise) in enumerate(zip(surfaces, dealt, strict=True)):
        identity = f"train-{number:07d}"
        if exercise != PLAIN:
            yield exercises.row(identity, EXERCISES[exercise], surface)
            continue
        template = next(templates)
        letters = list(surface.strip())
        if template in LENGTH_TEMPLATES:
            template = with_length(template, letters)
        yield spelling_row(identity, surface, template, template.render(surface, letters))


class ExerciseRows:
    """Makes rows of spelling exercises; the wordings of an exercise are dealt out evenly."""

    def __init__(self, surfaces: Sequence[str], forbidden: Collection[str], seed: int) -> None:
        """Begin.

        Args:
            surfaces: words to draw from where another is wanted, each as often as it should be drawn.
            forbidden: lower-case words that no text may show, neither joined nor letter by letter.
            seed: of everything that is drawn.
        """
        self.surfaces = surfaces
        self.forbidden = frozenset(forbidden)
        self.rng = random.Random(f"{seed} exercise texts")
        self._decks: dict[str, list[Wording]] = {}

    def row(self, identity: str, exercise: Exercise, surface: str) -> Row:
        """A row about the word, or about another where the exercise does not suit it.

        Raises:
            LetterwiseError: it suits none.
        """
        deck = self._decks.setdefault(exercise.name, [])
        if not deck:
            deck.extend(self.rng.sample(exercise.wordings, len(exercise.wordings)))
        wording = deck.pop()
        for _ in range(TRIES):
            if exercise.name == "strings":
                surface = f" {letter_string(self.rng)}"
            partner = self.rng.choice(self.surfaces) if exercise.words > 1 else None
            found = _exercise_row(identity, exercise, wording, surface, partner)
            if found and self._is_clean(found):
                return found
            surface = self.rng.choice(self.surfaces)
        raise LetterwiseError(
            f"No training word suits the exercise '{exercise.name}'; leave it out of data.exercises, or choose a base "
            "model with longer words in its vocabulary."
        )

    def _is_clean(self, row: Row) -> bool:
        text = [str(row["text"])]
        shown = audit.words_in(text) | audit.spelled_in(text)
        return self.forbidden.isdisjoint(shown) and not audit.row_impurities(row)


def rendered(row: Mapping[str, str | None], spellings: Sequence[Sequence[str]]) -> SpellingExample | None:
    """The exercise of a row once more, with these letters as the spelling of its words.

    None where the exercise does not suit the letters; with the true ones, it is the text that the row holds.
    """
    surfaces = [str(row[name]) for name in ("surface", "partner") if row.get(name)]
    # What the exercise asks for hangs on the row alone, so that whoever has the row can make its text again.
    rng = random.Random(f"{row['id']} {' '.join(surfaces)}")
    wording = WORDINGS[str(row["template"])]
    return EXERCISES[str(row["exercise"])].render(wording, surfaces, spellings, rng)


def true_letters(row: Mapping[str, str | None]) -> list[list[str]]:
    """The letters of the word of a row and, where there is one, of its partner."""
    return [list(str(row[name]).strip()) for name in ("surface", "partner") if row.get(name)]


def _exercise_row(identity: str, exercise: Exercise, wording: Wording, surface: str, partner: str | None) -> Row | None:
    if partner is not None and partner.strip().lower() == surface.strip().lower():
        return None
    row: Row = {
        **_named(identity, surface),
        "exercise": exercise.name,
        "partner": partner,
        "template": wording.name,
        "tone": wording.tone,
        "direction": wording.direction,
        "separator": "space",
        "letter_case": "lower",
    }
    example = rendered(row, true_letters(row))
    return row | _parts(example) if example else None


def spelling_row(identity: str, surface: str, template: SpellingTemplate, example: SpellingExample) -> Row:
    """A row of plain spelling."""
    return {
        **_named(identity, surface),
        **_parts(example),
        "exercise": PLAIN,
        "partner": None,
        "template": template.name,
        "tone": template.tone,
        "direction": template.direction,
        "separator": template.separator,
        "letter_case": template.letter_case,
    }


def _named(identity: str, surface: str) -> Row:
    return {"id": identity, "word": surface.strip(), "surface": surface}


def _parts(example: SpellingExample) -> Row:
    ((start, end),) = example.spans
    return {"text": example.text, "prompt": example.text[:start], "completion": example.text[start:end]}


def _dealt_templates(
    groups: Sequence[TemplateGroup], total: int, rng: random.Random, seed: int
) -> Iterator[SpellingTemplate]:
    """The template of each plain spelling: each group has its share, and deals out all of its templates in turn."""
    decks: list[list[SpellingTemplate]] = [[] for _ in groups]
    for place in _dealt([group.share for group in groups], total, f"{seed} templates"):
        if not decks[place]:
            decks[place] = rng.sample(groups[place].templates, len(groups[place].templates))
        yield decks[place].pop()


def _dealt(weights: Sequence[float], total: int, seed: str) -> list[int]:
    """Places among the weights, as many as asked for and in proportion to them (largest-remainder method), in random
    order."""
    shares = [total * weight / sum(weights) for weight in weights]
    counts = [int(share) for share in shares]
    left = total - sum(counts)
    for place in sorted(range(len(weights)), key=lambda place: counts[place] - shares[place])[:left]:
        counts[place] += 1
    dealt = [place for place, count in enumerate(counts) for _ in range(count)]
    random.Random(seed).shuffle(dealt)
    return dealt


def _dealt_surfaces(
    config: DataConfig, tokens: Sequence[LetterToken], uses: Mapping[str, int], extra: Sequence[str], seed: int
) -> list[str]:
    split_forms, extra_forms = split_surface_forms(tokens), surface_forms(extra)
    from_extra = round(config.train_examples * config.extra_word_share) if extra else 0
    from_split = round((config.train_examples - from_extra) * config.split_form_share) if split_forms else 0
    weights = [(uses.get(token.token, 0) + 0.2) ** config.use_exponent for token in tokens]
    return [
        *(token.token for token in _deal(tokens, weights, config.train_examples - from_split - from_extra, seed)),
        *_deal(split_forms, [1.0] * len(split_forms), from_split, seed),
        *_deal(extra_forms, [1.0] * len(extra_forms), from_extra, seed),
    ]


def split_surface_forms(tokens: Sequence[LetterToken]) -> list[str]:
    """The training words in those surface forms (leading space, capital) that are not tokens themselves, sorted.

    The tokenizer splits them, as it does held-out words, so that the model also learns to spell across tokens; the
    words are the same.
    """
    known = {token.token for token in tokens}
    words = {token.letters.lower() for token in tokens if token.char_length >= SHORTEST_SPLIT_WORD}
    return sorted(set(surface_forms(words)) - known)


def surface_forms(words: Iterable[str]) -> list[str]:
    """Each lower-case word with and without leading space and capital, in order."""
    return [form for word in words for form in (word, f" {word}", word.capitalize(), f" {word.capitalize()}")]


def _deal(items: Sequence[Item], weights: Sequence[float], total: int, seed: int) -> list[Item]:
    """Deal `total` items in proportion to their weights, each as often as its share allows.

    Systematic resampling: an item with the share of 2.3 comes two or three times, never not at all.
    """
    if not total:
        return []
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(items))
    edges = np.cumsum(np.asarray(weights)[order])
    picks = np.searchsorted(edges, (np.arange(total) + rng.random()) * edges[-1] / total, side="right")
    return [items[order[pick]] for pick in np.minimum(picks, len(items) - 1)]
