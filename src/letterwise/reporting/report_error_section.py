"""The report's error analysis: how answers are wrong, with examples.

Knows the error analysis; chooses no example itself.
"""

from __future__ import annotations

from pathlib import Path

from letterwise.reporting.report_document import Block, Picture, Section, Table, Text
from letterwise.reporting.report_findings import HEADLINES, capital
from letterwise.reporting.report_model import (
    ROLES,
    ErrorAnalysis,
    QuestionErrors,
    QuestionExample,
    SpellingErrors,
    SpellingExample,
)
from letterwise.reporting.summary import share_text


def errors_section(errors: ErrorAnalysis, confusion: Path | None) -> Section:
    """How answers are wrong, with real examples and, where it was drawn, the figure of true and predicted counts."""
    blocks: list[Block] = [
        Text(
            "Examples are chosen by rule, not by hand: the answers with the highest confidence (of the model itself, "
            "not calibrated) come first."
        ),
        *_spelling_blocks(errors.spelling),
    ]
    for found in errors.questions:
        blocks += _question_blocks(found)
        if found.question_type == "letter_count" and confusion:
            blocks.append(
                Picture(
                    confusion,
                    "True against predicted letter counts.",
                    "Tables of counts for each model: true count in rows, predicted count in columns.",
                )
            )
    return Section("Error analysis", blocks)


def _spelling_blocks(found: SpellingErrors) -> list[Block]:
    blocks: list[Block] = [
        Text(
            f"Spelling: {found.wrong:,} of {found.n:,} held-out words are spelled wrong, {found.one_edit_away:,} of "
            "them by one letter added, dropped or replaced."
        )
    ]
    if found.kinds:
        rows = [[kind, f"{count:,}", share_text(count / found.wrong)] for kind, count in _by_size(found.kinds)]
        blocks.append(Table("Wrong spellings by kind, tuned model.", ["kind", "words", "share of the wrong"], rows))
    if found.mistaken:
        blocks.append(_spelling_table("Wrong spellings of which the tuned model is surest.", found.mistaken))
        blocks.append(_kinds_table("Wrong spellings of each kind, the surest ones.", found.examples))
    if found.learned:
        blocks.append(
            _spelling_table("Learned: wrong before tuning and right after; the longest words.", found.learned)
        )
    return blocks


def _kinds_table(caption: str, examples: dict[str, list[SpellingExample]]) -> Table:
    return Table(
        caption,
        ["kind", "word", "tokens", "tuned wrote", "confidence"],
        [
            [kind, f"`{e.word}`", str(e.n_tokens), _written(e.spelled), share_text(e.confidence)]
            for kind, found in examples.items()
            for e in found
        ],
        right=False,
        widths=[34, 18, 9, 25, 14],
    )


def _spelling_table(caption: str, examples: list[SpellingExample]) -> Table:
    return Table(
        caption,
        ["word", "tokens", "tuned wrote", "base wrote", "confidence"],
        [
            [f"`{e.word}`", str(e.n_tokens), _written(e.spelled), _written(e.spelled_by_base), share_text(e.confidence)]
            for e in examples
        ],
        right=False,
        widths=[20, 10, 26, 30, 14],
    )


def _question_blocks(found: QuestionErrors) -> list[Block]:
    what = capital(HEADLINES[f"{found.question_type}_accuracy"])
    text = (
        f"{what}, mode direct: of {found.n:,} questions, {found.both_right:,} are right before and after tuning, "
        f"{found.only_finetuned_right:,} only after, {found.only_base_right:,} only before, {found.both_wrong:,} "
        f"never. The tuned model's favourite answer is `{found.favourite_answer}`, given {found.favourite_answers:,} "
        "times."
    )
    if found.written is not None:
        text += (
            f" Left to write, what it most often writes that is no answer is `{_plain(found.written)}` "
            f"({found.written_n:,} times)."
        )
    kinds = sorted(set().union(*found.kinds.values()), key=lambda kind: (-found.kinds["finetuned"].get(kind, 0), kind))
    rows = [
        [kind, *(share_text(found.kinds[role].get(kind, 0) / found.n) for role in ROLES if role in found.kinds)]
        for kind in kinds
    ]
    blocks: list[Block] = [
        Text(text),
        Table(
            f"{what}: answers by kind, each in the first kind that fits; share of {found.n:,} questions.",
            ["answer", *(ROLES[role] for role in ROLES if role in found.kinds)],
            rows,
        ),
    ]
    if found.mistaken:
        blocks.append(_question_table(f"{what}: wrong answers of which the tuned model is surest.", found.mistaken))
        blocks.append(
            Table(
                f"{what}: wrong answers of each kind, the surest ones.",
                ["kind", "question", "truth", "tuned", "confidence"],
                [
                    [kind, e.question, f"`{e.answer}`", f"`{e.finetuned}`", share_text(e.confidence)]
                    for kind, examples in found.examples.items()
                    for e in examples
                ],
                right=False,
                widths=[28, 38, 9, 9, 16],
            )
        )
    if found.lost:
        blocks.append(_question_table(f"{what}: right before tuning and wrong after.", found.lost))
    return blocks


def _question_table(caption: str, examples: list[QuestionExample]) -> Table:
    return Table(
        caption,
        ["question", "truth", "base", "tuned", "confidence"],
        [[e.question, f"`{e.answer}`", f"`{e.base}`", f"`{e.finetuned}`", share_text(e.confidence)] for e in examples],
        right=False,
        widths=[54, 10, 10, 10, 16],
    )


def _by_size(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: -pair[1])


def _written(letters: str) -> str:
    return f"`{letters}`" if letters else "nothing"


def _plain(text: str) -> str:
    """What a model wrote, on one line, in ASCII and without a backtick."""
    return ascii(text)[1:-1].replace("`", "'").strip() or "nothing"
