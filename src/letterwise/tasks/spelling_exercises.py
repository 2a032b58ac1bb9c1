"""Spelling exercises: texts that make a model find its way inside a word, and are spelling all the same.

What is produced are letters of the word shown (or the word itself). No wording holds a digit, a number word, an
ordinal, a question, or a word that names a place in a word or an amount. Knows nothing about tokenizers, models or
files.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from letterwise.data_config import ExerciseName, Tone
from letterwise.tasks import exercise_draws as draws
from letterwise.tasks.spelling import Direction, SpellingExample, in_text

Purity = Literal["plain", "partial"]
"""'plain': letters of the word in an order that its spelling gives. 'partial': letters chosen, sorted or grouped, so
that how often or where a letter occurs can be read off what is written, though no text says so."""

Draw = Callable[[draws.Words, draws.Spellings, random.Random], draws.Fields | None]
"""A function of `letterwise.tasks.exercise_draws`."""


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to write an exercise; every place, such as ``{word}``, stands once, after a space."""

    name: str
    tone: Tone
    text: str

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the places in their order."""
        return tuple(re.findall(r" \{(\w+)\}", self.text))

    @property
    def direction(self) -> Direction:
        """Whether letters are produced, or the word: what stands last."""
        return "spelling_first" if self.places[-1] == "word" else "word_first"

    def render(self, surfaces: Sequence[str], fields: Mapping[str, str]) -> SpellingExample:
        """Write one training text; what stands last is to be produced.

        Args:
            surfaces: the word and, where the wording has ``{other}``, the other word, as their tokens have them.
            fields: what to write in the other places.
        """
        shown = {name: in_text(surface) for name, surface in zip(("word", "other"), surfaces, strict=False)}
        shown |= {name: f" {value}" for name, value in fields.items()}
        *given, wanted = self.places
        before, _, after = self.text.partition(f" {{{wanted}}}")
        for name in given:
            before = before.replace(f" {{{name}}}", shown[name])
        start = len(before)
        return SpellingExample(before + shown[wanted] + after + "\n", ((start, start + len(shown[wanted])),))


@dataclass(frozen=True, slots=True)
class Exercise:
    """One kind of spelling exercise."""

    name: ExerciseName
    purity: Purity
    argument: str
    """Why a reader of the data would call it spelling."""
    draw: Draw
    wordings: tuple[Wording, ...]

    @property
    def words(self) -> int:
        """How many words a text is about."""
        return 2 if "other" in self.wordings[0].places else 1

    def render(
        self, wording: Wording, surfaces: Sequence[str], spellings: Sequence[Sequence[str]], rng: random.Random
    ) -> SpellingExample | None:
        """Write one training text; None where the exercise does not suit the words.

        Args:
            wording: one of this exercise's.
            surfaces: the words as their tokens have them.
            spellings: the letters to write as the spelling of each.
            rng: chooses what the text asks for; it takes the same numbers for other letters in the same places.
        """
        letters = [[letter.lower() for letter in spelling] for spelling in spellings]
        fields = self.draw([surface.strip() for surface in surfaces], letters, rng)
        return wording.render(surfaces, fields) if fields else None


def _exercise(name: ExerciseName, purity: Purity, argument: str, draw: Draw, *wordings: tuple[Tone, str]) -> Exercise:
    numbered = (Wording(f"{name}_{number}", tone, text) for number, (tone, text) in enumerate(wordings, start=1))
    return Exercise(name, purity, argument, draw, tuple(numbered))


EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        _exercise(
            "continuation",
            "plain",
            "It spells the rest of a word of which some letters are written already.",
            draws.continuation,
            ("structured", "Word: {word}\nSo far: {given}\nThen: {answer}"),
            ("plain", "The word {word} goes on after {given} with {answer}"),
            ("plain", "To finish {word} after {given}, write {answer}."),
            ("narrative", "She wrote {given} of {word}, and he added {answer}"),
        ),
        _exercise(
            "from_letter",
            "plain",
            "It spells a word from a letter on that is named, not placed.",
            draws.from_letter,
            ("structured", "Word: {word}\nFrom {given}: {answer}"),
            ("plain", "Spell {word} from {given} on: {answer}"),
            ("plain", "From {given} on, {word} goes {answer}."),
            ("narrative", "He read {word} aloud from {given} on: {answer}"),
        ),
        _exercise(
            "stretch",
            "plain",
            "It spells the stretch of a word between letters that are named, not placed.",
            draws.stretch,
            ("structured", "Word: {word}\nFrom {given} to {until}: {answer}"),
            ("plain", "Spell {word} from {given} to {until}: {answer}"),
            ("plain", "From {given} up to {until}, {word} goes {answer}."),
        ),
        _exercise(
            "backwards",
            "plain",
            "It spells a word in the opposite direction.",
            draws.backwards,
            ("structured", "Word: {word}\nBackwards: {answer}"),
            ("plain", "Spelled backwards, {word} is {answer}"),
            ("plain", "Read backwards, {answer} is {word}."),
            ("structured", "Letters: {answer}\nTurned around: {word}"),
        ),
        _exercise(
            "cloze",
            "plain",
            "It fills in the letters left out of a spelling.",
            draws.cloze,
            ("structured", "Word: {word}\nWith gaps: {given}\nMissing: {answer}"),
            ("plain", "Fill in {word}: {given} wants {answer}"),
            ("plain", "In {given} for {word}, what is missing is {answer}."),
        ),
        _exercise(
            "chunks",
            "plain",
            "It spells a word part by part, as words are spelled aloud by syllables.",
            draws.chunks,
            ("structured", "Word: {word}\nParts: {given}\nSpelling: {answer}"),
            ("plain", "Spell {word} part by part, {given}: {answer}"),
            ("plain", "In parts, {word} is {given}: {answer}."),
        ),
        _exercise(
            "growing",
            "plain",
            "It spells a word again and again, each time a letter further.",
            draws.growing,
            ("structured", "Word: {word}\nGrowing: {answer}"),
            ("plain", "Letter by letter {word} grows: {answer}"),
            ("narrative", "The child built {word} from blocks: {answer}"),
        ),
        _exercise(
            "side_by_side",
            "plain",
            "It spells two words at the same time, letter beside letter.",
            draws.side_by_side,
            ("structured", "Words: {word} and {other}\nSide by side: {answer}"),
            ("plain", "Letter beside letter, {word} and {other} are {answer}"),
            ("plain", "Spell {word} beside {other}: {answer}"),
        ),
        _exercise(
            "proofread",
            "plain",
            "It puts a misspelling right.",
            draws.proofread,
            ("structured", "Wrong: {given}\nWord: {word}\nCorrected: {answer}"),
            ("plain", "Instead of {given}, {word} is spelled {answer}"),
            ("plain", "Correct {given} to {word}: {answer}."),
        ),
        _exercise(
            "strings",
            "plain",
            "It takes strings of letters apart and joins them; they are no words.",
            draws.whole,
            ("structured", "Letters: {word}\nApart: {answer}"),
            ("plain", "Copy {word} letter by letter: {answer}"),
            ("plain", "Joined, {answer} gives {word}"),
            ("structured", "Apart: {answer}\nTogether: {word}"),
        ),
        _exercise(
            "neighbours",
            "partial",
            "It writes a letter of the word with what follows it, each time it occurs; debatable, because all "
            "occurrences are written.",
            draws.neighbours,
            ("structured", "Word: {word}\nEach {given} with what follows: {answer}"),
            ("plain", "In {word}, every {given} and the letter after it: {answer}"),
        ),
        _exercise(
            "shared",
            "partial",
            "It compares two spellings and writes the letters that both have; debatable, because it is about which "
            "letters a word has, not about their order.",
            draws.shared,
            ("structured", "Words: {word} and {other}\nShared letters: {answer}"),
            ("plain", "What {word} and {other} share is {answer}"),
            ("plain", "The letters that {word} shares with {other}: {answer}"),
        ),
        _exercise(
            "sorted",
            "partial",
            "It writes the letters of a word in alphabetical order; debatable, because like letters come to stand "
            "together.",
            draws.alphabetical,
            ("structured", "Word: {word}\nSorted: {answer}"),
            ("plain", "The letters of {word} in the order of the alphabet: {answer}"),
            ("plain", "Sorted, {word} is {answer}."),
        ),
        _exercise(
            "grouped",
            "partial",
            "It writes the letters of a word, like with like; debatable, because a group shows how often its letter "
            "occurs.",
            draws.grouped,
            ("structured", "Word: {word}\nLike with like: {answer}"),
            ("plain", "Grouped, the letters of {word} are {answer}"),
            ("plain", "Put the same letters of {word} together: {answer}."),
        ),
        _exercise(
            "without",
            "partial",
            "It spells a word and leaves a letter out; debatable, because all occurrences of the letter have to be "
            "known.",
            draws.without,
            ("structured", "Word: {word}\nWithout {given}: {answer}"),
            ("plain", "Spell {word} without {given}: {answer}"),
            ("plain", "Leave {given} out of {word}: {answer}."),
        ),
        _exercise(
            "picked",
            "partial",
            "It copies out of a word all that is a given letter; debatable, because that is a tally in letters.",
            draws.picked,
            ("structured", "Word: {word}\nOnly {given}: {answer}"),
            ("plain", "Pick every {given} from {word}: {answer}"),
            ("plain", "Of {word}, keep {given} and drop the rest: {answer}."),
        ),
        _exercise(
            "hangman",
            "partial",
            "It is the board of the game of hangman after a guess; debatable, because the board shows where and how "
            "often the letter occurs.",
            draws.hangman,
            ("structured", "Word: {word}\nGuess: {given}\nBoard: {answer}"),
            ("plain", "Hide all of {word} but {given}: {answer}"),
            ("plain", "With {given} guessed, {word} shows {answer}."),
        ),
    )
}
"""Every exercise by its name; plain spelling has its templates in `letterwise.tasks.spelling`."""

WORDINGS: dict[str, Wording] = {
    wording.name: wording for exercise in EXERCISES.values() for wording in exercise.wordings
}
"""Every wording by its name, which is the `template` of a row."""
