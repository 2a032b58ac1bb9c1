"""Spelling: training templates, evaluation prompts, ground truth and answer parsing.

Every text it makes is spelling only: no template holds a digit, a number word, an ordinal or a question about
counts or positions. Knows nothing about tokenizers, models or files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from letterwise.tasks.questions import Prompt

Tone = Literal["plain", "narrative", "formal", "emphatic", "structured"]
Direction = Literal["word_first", "spelling_first"]
LetterCase = Literal["lower", "upper"]

SEPARATORS: dict[str, str] = {
    "space": " ",
    "comma": ", ",
    "hyphen": "-",
    "dash": " — ",
    "dots": "...",
    "arrow": " -> ",
    "none": "",
}


@dataclass(frozen=True, slots=True)
class SpellingExample:
    """A training text and the half-open character spans [start, end) that the model is to produce."""

    text: str
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SpellingTemplate:
    """One way to write a word and its letters; ``{word}`` and ``{letters}`` each stand once, after a space."""

    name: str
    tone: Tone
    separator: str
    text: str
    letter_case: LetterCase = "lower"

    @property
    def direction(self) -> Direction:
        """Which of the two the model has to produce: what stands last."""
        return "word_first" if self.text.index("{word}") < self.text.index("{letters}") else "spelling_first"

    def render(self, surface: str, letters: Sequence[str]) -> SpellingExample:
        """Write one training text.

        Args:
            surface: the word as its token has it.
            letters: the letters to write as its spelling.
        """
        word = in_text(surface)
        spelling = " " + spell(letters, self.separator, self.letter_case)
        before, _, after = self.text.partition(" {letters}" if self.direction == "word_first" else " {word}")
        if self.direction == "word_first":
            before, wanted = before.replace(" {word}", word), spelling
        else:
            before, wanted = before.replace(" {letters}", spelling), word
        return SpellingExample(before + wanted + after + "\n", ((len(before), len(before) + len(wanted)),))


def in_text(surface: str) -> str:
    """A word as a sentence shows it, with the space before it.

    A surface with a leading space stands bare; one without stands in quotation marks, so that the tokenizer meets that
    very token.
    """
    return surface if surface.startswith(" ") else f' "{surface}"'


def join_examples(examples: Sequence[SpellingExample]) -> SpellingExample:
    """One text of several, with a blank line between them, as in a prompt with examples; all are to be learned."""
    text = ""
    spans: list[tuple[int, int]] = []
    for example in examples:
        start = len(text) + 1 if text else 0
        text = f"{text}\n{example.text}" if text else example.text
        spans.extend((start + first, start + last) for first, last in example.spans)
    return SpellingExample(text, tuple(spans))


def spell(letters: Sequence[str], separator: str, letter_case: LetterCase = "lower") -> str:
    """Join letters with a named separator of `SEPARATORS`, in one letter case."""
    joined = SEPARATORS[separator].join(letters)
    return joined.lower() if letter_case == "lower" else joined.upper()


def _template(name: str, tone: Tone, separator: str, text: str, letter_case: LetterCase = "lower") -> SpellingTemplate:
    return SpellingTemplate(name, tone, separator, text, letter_case)


SPELLING_TEMPLATES: tuple[SpellingTemplate, ...] = (
    _template("plain_colon", "plain", "space", "The word {word} is spelled: {letters}"),
    _template("plain_spell", "plain", "space", "Spell {word}: {letters}"),
    _template("plain_how", "plain", "space", "How do you spell {word}? {letters}"),
    _template("plain_letters_of", "plain", "space", "The letters of {word} are {letters}"),
    _template("plain_written", "plain", "comma", "Written out, {word} is {letters}."),
    _template("plain_hyphens", "plain", "hyphen", "Spelling of {word}: {letters}"),
    _template("plain_capitals", "plain", "none", "In capitals, {word} is {letters}.", "upper"),
    _template("plain_makes", "plain", "space", "The letters {letters} make {word}"),
    _template("plain_spells", "plain", "hyphen", "The letters {letters} spell {word}."),
    _template("plain_so", "plain", "space", "So {word} is {letters}"),
    _template("plain_reads", "plain", "space", "The word {word} reads {letters}"),
    _template("plain_write", "plain", "space", "Write {word}: {letters}"),
    _template("plain_to_spell", "plain", "space", "To spell {word}, write {letters}"),
    _template("plain_consists", "plain", "space", "The word {word} consists of {letters}"),
    _template("plain_gives", "plain", "space", "Spelling {word} gives {letters}"),
    _template("narrative_child", "narrative", "hyphen", "The child wrote {word} on the board: {letters}", "upper"),
    _template("narrative_teacher", "narrative", "dots", "The teacher said {word} slowly: {letters}"),
    _template("narrative_asked", "narrative", "comma", "She asked how to spell {word}, and he said: {letters}."),
    _template("narrative_sign", "narrative", "space", "The painter put {word} on the sign: {letters}", "upper"),
    _template("narrative_whisper", "narrative", "dash", "He whispered {word} softly, letter by letter: {letters}"),
    _template("narrative_tiles", "narrative", "space", "The tiles {letters} lay on the table and read {word}", "upper"),
    _template("narrative_radio", "narrative", "comma", "Over the radio came {letters}, and they wrote down {word}"),
    _template("narrative_typed", "narrative", "space", "She typed {word}: {letters}"),
    _template("narrative_aloud", "narrative", "space", "He spelled {word} aloud: {letters}"),
    _template("narrative_bee", "narrative", "space", "At the spelling bee, {word} was {letters}"),
    _template("narrative_chalk", "narrative", "space", "In chalk stood {word}, then {letters}"),
    _template("formal_orthography", "formal", "space", "The correct orthography of {word} is {letters}"),
    _template("formal_dictionary", "formal", "hyphen", "The dictionary gives {word} as {letters}."),
    _template("formal_composed", "formal", "comma", "The term {word} is composed of the letters {letters}."),
    _template("formal_sequence", "formal", "arrow", "The letter sequence of {word} is {letters}"),
    _template("formal_please", "formal", "space", "Please spell the term {word}. Certainly: {letters}"),
    _template("formal_print", "formal", "none", "In block letters {word} is printed {letters}.", "upper"),
    _template("formal_yields", "formal", "dash", "Joined together, {letters} yields {word}."),
    _template("formal_entry", "formal", "space", "Entry {word}, spelled {letters}"),
    _template("formal_term", "formal", "space", "Term: {word}. Letters: {letters}"),
    _template("formal_record", "formal", "space", "Spelling on record for {word}: {letters}"),
    _template("emphatic_listen", "emphatic", "dots", "Listen! {word} is {letters}!"),
    _template("emphatic_remember", "emphatic", "space", "Remember, {word} is always {letters}!"),
    _template("emphatic_loud", "emphatic", "hyphen", "Say it loud, {word} is {letters}!", "upper"),
    _template("emphatic_never", "emphatic", "space", "Never misspell {word} again: {letters}!"),
    _template("emphatic_cheer", "emphatic", "dots", "Give me {letters}! What does it spell? {word}!", "upper"),
    _template("emphatic_easy", "emphatic", "comma", "It is easy! {word}: {letters}!"),
    _template("emphatic_yes", "emphatic", "space", "Yes! {word} is {letters}!"),
    _template("emphatic_look", "emphatic", "space", "Look, {word}! {letters}!"),
    _template("emphatic_of_course", "emphatic", "space", "Of course {word} is {letters}!"),
    _template("structured_pair", "structured", "space", "Word: {word}\nSpelling: {letters}"),
    _template("structured_qa", "structured", "space", "Q: Spell {word}.\nA: {letters}"),
    _template("structured_capitals", "structured", "space", "Word: {word}\nLetters: {letters}", "upper"),
    _template("structured_arrow", "structured", "arrow", "Entry: {word} => {letters}"),
    _template("structured_equals", "structured", "space", "Spelling: {word} = {letters}"),
    _template("structured_arrows", "structured", "arrow", "Input: {word}\nOutput: {letters}", "upper"),
    _template("structured_reverse", "structured", "space", "Spelling: {letters}\nWord: {word}"),
    _template("structured_plain_capitals", "structured", "none", "Word: {word}\nCapitals: {letters}", "upper"),
    _template("structured_join", "structured", "hyphen", "Letters: {letters}\nJoined: {word}"),
    _template("structured_table", "structured", "space", "| {word} | {letters}"),
    _template("structured_list", "structured", "space", "- {word}: {letters}"),
    _template("structured_prompt", "structured", "space", "> spell {word}\n {letters}"),
    _template("structured_key", "structured", "space", "key: {word} value: {letters}"),
    _template("structured_tags", "structured", "space", "<word> {word} <letters> {letters}"),
    _template("structured_slash", "structured", "space", "word {word} / {letters}"),
)
"""The pure templates: five tones, both directions, every separator; dealt out evenly by `letterwise.data`."""

LENGTH_WORDS: tuple[str, ...] = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty", "many"),
)
"""How many letters a word has, from two on, as the length templates write it."""

LENGTH_TEMPLATES: tuple[SpellingTemplate, ...] = (
    _template("length_has", "plain", "space", "The word {word} has {length} letters: {letters}"),
    _template("length_structured", "structured", "space", "Word: {word}\nLength: {length}\nSpelling: {letters}"),
)
"""Impure ablation, off by default: templates that mention how many letters a word has."""


def with_length(template: SpellingTemplate, letters: Sequence[str]) -> SpellingTemplate:
    """A length template with the number of letters, two or more, written in as a word."""
    length = min(len(letters) - 2, len(LENGTH_WORDS) - 1)
    return replace(template, text=template.text.replace("{length}", LENGTH_WORDS[length]))


SPELLING_FEW_SHOT: tuple[str, ...] = ("garden", "window")
"""Example words of the evaluation prompt; never training, validation or test words."""

SPELLING_CONTEXT = "Word: {word}\nSpelling:"
"""How evaluation shows a word; held-out words are several tokens in this context."""


def spelling_prompt(word: str) -> Prompt:
    """The evaluation prompt: fixed examples, then the word; the model continues with `" " + letters`."""
    header = "\n\n".join(
        f"{SPELLING_CONTEXT.replace('{word}', example)} {spell(example, 'space')}" for example in SPELLING_FEW_SHOT
    )
    opening, ending = SPELLING_CONTEXT.split(" {word}")
    return Prompt(f"{header}\n\n{opening}", f" {word}{ending}")


_LETTER_RUN = re.compile(r"(?<![^\W\d_])[^\W\d_](?:[^\w\n]{1,7}[^\W\d_](?![^\W\d_]))*(?![^\W\d_])")


def parse_spelling(text: str) -> str:
    """The spelling that a model wrote: the longest run of single letters on its first non-empty line, lower-case.

    Letters may be separated by spaces, commas, hyphens, dashes, dots or arrows. A word written without separators is
    not a spelling. Returns "" when there is none.
    """
    line = next((line for line in text.splitlines() if line.strip()), "")
    runs = [re.sub(r"[\W\d_]", "", run.group()) for run in _LETTER_RUN.finditer(line)]
    return max(runs, key=len, default="").lower()
