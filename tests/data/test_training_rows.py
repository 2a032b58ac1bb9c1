"""Spelling exercises among the training texts: how they are dealt, that nothing leaks, and what the audit tells."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.data import training_rows
from letterwise.data.audit import ALL_IMPURE_WORDS, row_impurities, spelled_in, words_in
from letterwise.data.build import EXERCISE_FEATURES, build_data, load_data
from letterwise.data.training_rows import ExerciseRows, build_rows, rendered, true_letters
from letterwise.data.word_lists import few_shot_words, read_words
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.results import DataAudit
from letterwise.tasks.spelling import LENGTH_TEMPLATES, SPELLING_TEMPLATES, SpellingTemplate
from letterwise.tasks.spelling_exercises import EXERCISES, WORDINGS
from letterwise.tasks.template_mix import template_groups
from letterwise.words.vocabulary import LetterToken

MIX = {"spelling": 3.0, **dict.fromkeys(EXERCISES, 1.0)}
SETTINGS = DataConfig.model_validate(
    {"train_examples": 800, "count_questions": 4, "position_questions": 4, "exercises": MIX}
)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> tuple[list[dict[str, str | None]], DataAudit]:
    """The rows of a mix of everything, and their audit."""
    folder = tmp_path_factory.mktemp("mix") / "data"
    audit = build_data(SETTINGS, tiny_tokenizer, 0, words_folder, folder)
    spelling, _ = load_data(folder)
    assert all(spelling[split].features == EXERCISE_FEATURES for split in spelling)
    return spelling["train"].to_list(), audit


Built = tuple[list[dict[str, str | None]], DataAudit]


def test_every_exercise_has_its_share_and_its_wordings_are_dealt_evenly(built: Built) -> None:
    rows, audit = built
    assert Counter(row["exercise"] for row in rows) == {"spelling": 120, **dict.fromkeys(EXERCISES, 40)}
    assert audit.exercise_shares == {"spelling": 0.15, **dict.fromkeys(EXERCISES, 0.05)}
    assert audit.exercise_purity == {name: exercise.purity for name, exercise in EXERCISES.items()}
    for name, exercise in EXERCISES.items():
        uses = Counter(row["template"] for row in rows if row["exercise"] == name)
        assert uses.keys() == {wording.name for wording in exercise.wordings}
        assert max(uses.values()) - min(uses.values()) <= 1


def test_the_exercises_are_mixed_with_one_another(built: Built) -> None:
    rows, _ = built
    assert len({row["exercise"] for row in rows[:60]}) > 12


def test_texts_are_pure_and_hold_no_held_out_word_joined_or_letter_by_letter(built: Built, words_folder: Path) -> None:
    rows, audit = built
    tokens, held_out, _ = read_words(words_folder)
    exercises = [row for row in rows if row["exercise"] != "spelling"]
    texts = [str(row["text"]) for row in exercises]
    reserved = {*held_out.validation, *held_out.test, *few_shot_words(), *ALL_IMPURE_WORDS}
    assert (words_in(texts) | spelled_in(texts)).isdisjoint(reserved)
    assert all(row_impurities(row) == [] for row in rows)
    assert set(audit.purity_violations.values()) == {0} == set(audit.overlaps.values())
    assert "spelled_letters∩held_out" in audit.overlaps
    known = {token.letters.lower() for token in tokens}
    about_words = [row for row in exercises if row["exercise"] != "strings"]
    shown = [str(row[name]).strip().lower() for row in about_words for name in ("surface", "partner") if row[name]]
    assert set(shown) <= known


def test_a_row_has_what_its_text_is_made_of(built: Built) -> None:
    rows, _ = built
    for row in rows:
        assert str(row["text"]).startswith(f"{row['prompt']}{row['completion']}")
        if row["exercise"] == "spelling":
            assert row["partner"] is None
            continue
        exercise = EXERCISES[str(row["exercise"])]
        assert (row["partner"] is not None) == (exercise.words == 2)
        assert row["direction"] == WORDINGS[str(row["template"])].direction
        again = rendered(row, true_letters(row))
        assert again
        ((start, end),) = again.spans
        assert (again.text, again.text[start:end]) == (row["text"], row["completion"])


def test_weights_are_relative_and_plain_spelling_alone_is_what_it_was(
    tmp_path: Path, words_folder: Path, data_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    """`data_folder` is built without the setting."""
    settings = DataConfig(train_examples=400, count_questions=40, position_questions=40, exercises={"spelling": 7.0})
    audit = build_data(settings, tiny_tokenizer, 0, words_folder, tmp_path / "data")
    assert sha256_file(data_folder / "spelling/train.parquet") == audit.checksums["spelling/train.parquet"]
    assert audit.exercise_shares == {"spelling": 1.0}
    assert audit.exercise_purity == {}


def test_the_same_seed_gives_the_same_exercises(words_folder: Path) -> None:
    tokens, _, uses = read_words(words_folder)

    def texts(seed: int) -> list[str | None]:
        return [row["text"] for row in build_rows(SETTINGS, tokens, uses, (), (), seed)]

    assert texts(0) == texts(0) != texts(1)


def test_shares_that_do_not_divide_the_texts_are_rounded_to_their_number() -> None:
    mix = {"spelling": 1.0, "backwards": 1.0, "sorted": 1.0}
    settings = DataConfig.model_validate({"train_examples": 100, "exercises": mix})
    rows = list(build_rows(settings, [LetterToken(" straw", 1, 5)], {}, (), (), 0))
    assert sorted(Counter(row["exercise"] for row in rows).values()) == [33, 33, 34]


def test_a_draw_that_would_show_a_forbidden_word_is_not_taken() -> None:
    """The chunks of "strawplum" would be these, and its rest letter by letter."""
    forbidden = {"plum", "str", "straw"}
    surfaces = [f" strawplum{ending}" for ending in ("", "s", "y", "ing", "let", "age", "ish", "ful", "able", "ness")]

    def shown(maker: ExerciseRows, name: str) -> set[str]:
        rows = (maker.row(f"{name}-{number}", EXERCISES[name], surfaces[0]) for number in range(60))
        texts = [str(row["text"]) for row in rows]
        return words_in(texts) | spelled_in(texts)

    for name in ("chunks", "continuation"):
        assert forbidden & shown(ExerciseRows(surfaces, (), 0), name)
        assert not forbidden & shown(ExerciseRows(surfaces, forbidden, 0), name)


def test_a_draw_that_would_spell_an_impure_word_is_not_taken() -> None:
    """The rest of "stone" and of "lemons" would be these."""
    maker = ExerciseRows([" stone", " lemons", " berry", " straw"], (), 0)
    for number in range(60):
        row = maker.row(f"train-{number}", EXERCISES["continuation"], " stone")
        assert ALL_IMPURE_WORDS.isdisjoint(spelled_in([str(row["text"])]))


def test_the_order_in_which_a_mix_is_written_does_not_matter() -> None:
    def dealt(*names: str) -> list[str | None]:
        settings = DataConfig.model_validate({"train_examples": 40, "exercises": dict.fromkeys(names, 1.0)})
        return [row["text"] for row in build_rows(settings, [LetterToken(" straw", 1, 5)], {}, (), (), 0)]

    assert dealt("spelling", "backwards", "sorted") == dealt("sorted", "spelling", "backwards")


def test_the_two_words_of_an_exercise_differ() -> None:
    maker = ExerciseRows([" Straw", "straw", " berry"], (), 0)
    rows = [maker.row(str(number), EXERCISES["side_by_side"], " straw") for number in range(30)]
    assert {str(row["partner"]).strip().lower() for row in rows if row["word"] == "straw"} == {"berry"}


def test_an_exercise_that_suits_no_word_is_refused() -> None:
    with pytest.raises(LetterwiseError, match=r"No training word suits the exercise 'stretch'; leave it out of data\."):
        ExerciseRows([" add", " it"], (), 0).row("train-0", EXERCISES["stretch"], " it")


WORDS = (" straw", "berry", " The", "ing", " plums", "Cat", " stone", "garland")
TOKENS = [LetterToken(word, number, len(word.strip())) for number, word in enumerate(WORDS)]


@pytest.mark.parametrize("length_sentences", [False, True])
def test_without_a_mix_the_texts_are_those_from_before_there_was_one(length_sentences: bool) -> None:
    """Built as they were then: what runs made stays comparable to the byte."""
    exercises = {"spelling": 1.0, "backwards": 1.0, "side_by_side": 2.0}
    config = DataConfig.model_validate(
        {"train_examples": 500, "exercises": exercises, "length_sentences": length_sentences}
    )
    rows = list(build_rows(config, TOKENS, {" straw": 3, "ing": 40}, ["peach"], (), 0))

    dealt = ["backwards"] * 125 + ["side_by_side"] * 250 + ["spelling"] * 125
    random.Random("0 exercises").shuffle(dealt)
    assert [row["exercise"] for row in rows] == dealt
    rng = random.Random("0 training texts")
    rng.shuffle([None] * 500)  # the words
    templates = (*SPELLING_TEMPLATES, *(LENGTH_TEMPLATES if length_sentences else ()))
    deck: list[SpellingTemplate] = []
    for row in rows:
        if row["exercise"] == "spelling":
            deck = deck or rng.sample(templates, len(templates))
            assert row["template"] == deck.pop().name


def test_a_mix_of_templates_has_its_shares_among_the_plain_spellings() -> None:
    settings = {
        "train_examples": 600,
        "exercises": {"spelling": 2, "backwards": 1},
        "tones": {"plain": 3, "structured": 1},
        "separators": ["space", "hyphen"],
        "spelling_first_share": 0.3,
    }
    rows = [
        row
        for row in build_rows(DataConfig.model_validate(settings), TOKENS, {}, (), (), 0)
        if row["exercise"] == "spelling"
    ]
    assert Counter((row["tone"], row["direction"]) for row in rows) == {
        ("plain", "word_first"): 210,
        ("plain", "spelling_first"): 90,
        ("structured", "word_first"): 70,
        ("structured", "spelling_first"): 30,
    }
    assert {row["separator"] for row in rows} == {"space", "hyphen"}
    for kind in {(row["tone"], row["direction"]) for row in rows}:
        uses = Counter(row["template"] for row in rows if (row["tone"], row["direction"]) == kind)
        assert max(uses.values()) - min(uses.values()) <= 1
    assert len({(row["tone"], row["direction"]) for row in rows[:100]}) == 4  # mixed, not one after another


@pytest.mark.parametrize(
    "settings",
    [
        {"tones": {"narrative": 1.0}},
        {"tones": {"plain": 0.1, "formal": 0.7, "emphatic": 0.33}, "spelling_first_share": 0.123},
        {"separators": ["arrow", "none"], "train_examples": 7},
        {"letter_cases": ["upper"], "spelling_first_share": 1.0, "exercises": {"spelling": 1.0, "cloze": 1.0}},
    ],
)
def test_the_audit_finds_each_mix_as_it_was_asked_for(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, settings: dict[str, Any]
) -> None:
    few = {"train_examples": 311, "count_questions": 4, "position_questions": 4, **settings}
    config = DataConfig.model_validate(few)
    audit = build_data(config, tiny_tokenizer, 0, words_folder, tmp_path / "data")
    assert audit.passed
    asked = {template.name for group in template_groups(config) for template in group.templates}
    assert audit.template_shares.keys() - WORDINGS.keys() <= asked


def test_texts_that_are_not_mixed_as_asked_for_fail_the_build(
    tmp_path: Path,
    words_folder: Path,
    tiny_tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_rows, "template_groups", lambda config: template_groups(DataConfig()))
    asked = DataConfig(train_examples=300, count_questions=4, position_questions=4, tones={"plain": 1.0})
    with pytest.raises(LetterwiseError, match=r"The templates are not mixed as asked for: 'plain_\w+' makes 5 of 300"):
        build_data(asked, tiny_tokenizer, 0, words_folder, tmp_path / "data")
    assert not (tmp_path / "data").exists()
