"""What each control is trained on: the same texts, with something in place of the true spellings."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from string import ascii_lowercase

import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.data.audit import ALL_IMPURE_WORDS, impurities, row_impurities, spelled_in
from letterwise.data.build import build_data, load_data
from letterwise.data.ceiling import question_texts
from letterwise.data.controls import other_spelling, repeated_words, respelled, shuffled_spelling
from letterwise.data.role_texts import texts_of_role
from letterwise.data.texts import spelling_examples
from letterwise.data.training_rows import build_rows
from letterwise.data.word_lists import read_words
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.results import OTHER_CONTROLS, TrainedRole
from letterwise.tasks import letter_count, letter_position
from letterwise.tasks.questions import count_question, direct_prompt, position_question
from letterwise.tasks.spelling import SPELLING_TEMPLATES, SpellingExample, parse_spelling
from letterwise.tasks.spelling_exercises import EXERCISES, WORDINGS

Rows = list[dict[str, str | None]]


@pytest.fixture
def rows(data_folder: Path) -> Rows:
    training_rows: Rows = load_data(data_folder)[0]["train"].to_list()
    return training_rows


def wanted(example: SpellingExample) -> str:
    ((start, end),) = example.spans
    return example.text[start:end]


def letter_words(text: str) -> set[str]:
    return set(re.findall(r"[a-z]{2,}", text.lower()))


def test_the_control_differs_in_the_order_of_the_letters_only(rows: Rows) -> None:
    for row, true, control in zip(rows, spelling_examples(rows), shuffled_spelling(rows, 0), strict=True):
        ((start, end),) = control.spans
        assert control.spans == true.spans
        assert sorted(control.text) == sorted(true.text)
        assert impurities(control.text) == []
        several = len(set(row["word"].lower())) > 1
        assert (control.text != true.text) == several
        if row["direction"] == "word_first":
            assert control.text[:start] + control.text[end:] == true.text[:start] + true.text[end:]
            assert (parse_spelling(wanted(control)) != row["word"].lower()) or not several
        else:
            assert wanted(control) == wanted(true)
            changed = [
                place for place, pair in enumerate(zip(control.text, true.text, strict=True)) if len({*pair}) > 1
            ]
            assert len(changed) <= len(row["word"])


def test_the_control_never_spells_the_word_nor_an_impure_one() -> None:
    template = next(template for template in SPELLING_TEMPLATES if template.name == "plain_capitals")
    for word in ("neo", "eno", "net", "on", "tow"):
        repeated = [{"word": word, "surface": f" {word}", "template": template.name}] * 50
        spelled = {wanted(control).strip().lower() for control in shuffled_spelling(repeated, 0)}
        assert all(sorted(letters) == sorted(word) for letters in spelled)
        assert spelled.isdisjoint({word, *ALL_IMPURE_WORDS})


def test_a_word_of_one_letter_repeated_has_no_other_order() -> None:
    (control,) = shuffled_spelling([{"word": "Oo", "surface": " Oo", "template": "plain_spell"}], 0)
    assert control.text == "Spell Oo: o o\n"


def test_the_control_is_shuffled_by_its_seed(rows: Rows) -> None:
    assert shuffled_spelling(rows, 0) == shuffled_spelling(rows, 0) != shuffled_spelling(rows, 1)


def test_the_control_says_the_same_lengths(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    settings = DataConfig(train_examples=200, count_questions=4, position_questions=4, length_sentences=True)
    build_data(settings, tiny_tokenizer, 0, words_folder, tmp_path / "data")
    impure = [row for row in load_data(tmp_path / "data")[0]["train"].to_list() if row["template"] == "length_has"]
    assert impure
    for row, control in zip(impure, shuffled_spelling(impure, 0), strict=True):
        assert control.text.partition(":")[0] == row["text"].partition(":")[0]


@pytest.fixture(scope="module")
def exercises(words_folder: Path) -> Rows:
    """Rows of every exercise."""
    tokens, _, uses = read_words(words_folder)
    settings = DataConfig.model_validate({"train_examples": 340, "exercises": dict.fromkeys(EXERCISES, 1.0)})
    return list(build_rows(settings, tokens, uses, (), (), 0))


def test_the_control_of_an_exercise_asks_a_false_spelling_for_the_same(exercises: Rows) -> None:
    true, false = spelling_examples(exercises), shuffled_spelling(exercises, 0)
    changed: Counter[str] = Counter()
    for row, one, other in zip(exercises, true, false, strict=True):
        ((start, end),) = other.spans
        assert other.text[start:end].strip()
        wording = WORDINGS[str(row["template"])]
        assert letter_words(re.sub(r"\{\w+\}", "", wording.text)) <= letter_words(other.text)
        assert row_impurities({**row, "text": other.text}) == []
        for name in ("surface", "partner"):
            assert row[name] is None or str(row[name]).strip() in other.text
        if row["exercise"] in ("continuation", "backwards", "cloze", "chunks", "growing", "side_by_side", "strings"):
            assert len(other.text) == len(one.text)
        changed[str(row["exercise"])] += other.text != one.text
    assert changed.pop("sorted") == 0  # which letters a word has, the control learns too
    assert changed.pop("shared") > 0  # where more than one letter is shared
    assert min(changed.values()) >= 5


def test_the_false_spelling_of_a_text_is_consistent(exercises: Rows) -> None:
    chosen = [row for row in exercises if row["exercise"] == "growing"]
    for control in shuffled_spelling(chosen, 0):
        steps = [step.split() for step in wanted(control).strip(" .").split(", ")]
        assert all(longer[:-1] == shorter for shorter, longer in pairwise(steps))


def test_letters_that_an_exercise_does_not_suit_are_spelled_plainly() -> None:
    row = {"id": "train-0", "word": "straw", "surface": " straw", "exercise": "stretch", "template": "stretch_1"}
    assert respelled(row, [list("noon")]).text == "Word: straw\nSpelling: n o o n\n"


def test_false_letters_that_would_spell_an_impure_word_are_spelled_plainly() -> None:
    row = {"word": "straw", "surface": " straw", "exercise": "continuation", "template": "continuation_1"}
    texts = {respelled({**row, "id": f"train-{number}"}, [list("stone")]).text for number in range(40)}
    assert texts == {
        "Word: straw\nSo far: s\nThen: t o n e\n",
        "Word: straw\nSo far: s t o\nThen: n e\n",
        "Word: straw\nSo far: s t o n\nThen: e\n",
        "Word: straw\nSpelling: s t o n e\n",  # instead of "s t" and "o n e"
    }


# Random labels


def test_each_word_has_the_spelling_of_another_wherever_it_comes(rows: Rows) -> None:
    labels: dict[str, set[str]] = {}
    for row, example in zip(rows, other_spelling(rows, 0), strict=True):
        if row["direction"] == "word_first" and row["separator"] != "none":
            labels.setdefault(str(row["word"]).lower(), set()).add(parse_spelling(wanted(example)))
        assert impurities(example.text) == []
    assert all(len(spellings) == 1 for spellings in labels.values())
    others = {word: next(iter(spellings)) for word, spellings in labels.items()}
    assert all(word != other for word, other in others.items())
    assert set(others.values()) <= {str(row["word"]).lower() for row in rows}
    same_length = [len(word) == len(other) for word, other in others.items()]
    assert sum(same_length) > 0.9 * len(same_length)
    assert other_spelling(rows, 0) != other_spelling(rows, 1)


def test_a_random_label_leaves_what_is_around_the_letters(rows: Rows) -> None:
    for row, example in zip(rows, other_spelling(rows, 0), strict=True):
        if row["direction"] == "word_first":
            ((start, _),) = example.spans
            assert example.text[:start] == row["prompt"]
        else:
            assert wanted(example) == row["completion"]


def test_words_and_strings_keep_to_their_own_kind(exercises: Rows) -> None:
    strings = {str(row["word"]) for row in exercises if row["exercise"] == "strings"}
    for row, example in zip(exercises, other_spelling(exercises, 0), strict=True):
        if row["exercise"] in ("strings", "backwards") and row["direction"] == "word_first":
            spelled = parse_spelling(wanted(example))
            assert ({spelled, spelled[::-1]} & strings != set()) == (row["exercise"] == "strings")


def test_exercises_ask_the_other_words_letters(exercises: Rows) -> None:
    sorted_rows = [row for row in exercises if row["exercise"] == "sorted"]
    for row, example in zip(sorted_rows, other_spelling(sorted_rows, 0), strict=True):
        letters = wanted(example).split()
        assert letters == sorted(letters)
        assert str(row["surface"]).strip() in example.text
    several = zip(sorted_rows, other_spelling(sorted_rows, 0), strict=True)
    assert any(sorted(str(row["word"]).lower()) != wanted(example).split() for row, example in several)


# The format alone


def test_the_format_alone_repeats_the_word_and_spells_nothing(rows: Rows) -> None:
    for row, example in zip(rows, repeated_words(rows), strict=True):
        word = str(row["word"])
        assert wanted(example).strip(' "').lower() == word.lower()
        assert example.text.lower().count(word.lower()) >= 2
        assert parse_spelling(wanted(example)) == ""
        if row["direction"] == "word_first":
            ((start, _),) = example.spans
            assert example.text[:start] == row["prompt"]


def test_the_format_of_an_exercise_holds_no_letters_either(exercises: Rows) -> None:
    for row, example in zip(exercises, repeated_words(exercises), strict=True):
        assert wanted(example).strip(' "').lower() == str(row["word"]).lower()
        beside = letter_words(re.sub(r"\{\w+\}", " ", WORDINGS[str(row["template"])].text))
        words = {str(row[name]).strip().lower() for name in ("surface", "partner") if row[name]}
        assert letter_words(example.text) <= words | beside
        assert spelled_in([example.text]) == set()


# The ceiling


def test_the_ceiling_is_asked_balanced_questions_about_training_words(rows: Rows, words_folder: Path) -> None:
    examples, kinds = question_texts(rows, 0)
    assert len(examples) == len(rows)
    assert Counter(kinds) == {"letter_count": 200, "letter_position": 200}
    assert len(set(kinds[:20])) == 2
    _, held_out, _ = read_words(words_folder)
    phrasings = letter_words(" ".join((*letter_count.PHRASINGS.values(), *letter_position.PHRASINGS.values())))
    asked = letter_words(" ".join(example.text for example in examples)) - phrasings
    assert asked & {str(row["word"]).lower() for row in rows}
    assert asked.isdisjoint(held_out.test + held_out.validation)
    answers: Counter[str] = Counter()
    for example, kind in zip(examples, kinds, strict=True):
        assert re.fullmatch(r"Question: .+\nAnswer: \w\n", example.text)
        assert wanted(example) == f" {example.text.split()[-1]}"
        answers[kind + wanted(example)] += 1
    counts = [answers[f"letter_count {count}"] for count in "012"]
    assert abs(counts[0] - counts[1]) <= 1  # words of two or three letters have few that recur
    assert min(counts) > 5
    assert question_texts(rows, 0) == (examples, kinds)
    assert question_texts(rows, 1) != (examples, kinds)


def test_the_ceilings_texts_are_evaluated_prompts_without_the_examples() -> None:
    row = {"word": "straw", "surface": " straw", "exercise": "spelling", "template": "plain_spell"}
    texts = [example.text for example in question_texts([row] * 10, 0)[0]]
    counts = [count_question("straw", letter, name) for letter in ascii_lowercase for name in letter_count.PHRASINGS]
    positions = [position_question("straw", at, name) for at in range(1, 6) for name in letter_position.PHRASINGS]
    prompts = {direct_prompt(each).text.rpartition("\n\n")[2]: each.answer for each in [*counts, *positions]}
    for text in texts:
        prompt, _, answer = text.rstrip("\n").rpartition(" ")
        assert prompts[prompt] == answer


def test_strings_that_are_no_words_are_not_asked_about(exercises: Rows) -> None:
    strings = {str(row["word"]) for row in exercises if row["exercise"] == "strings"}
    asked = " ".join(example.text for example in question_texts(exercises, 0)[0])
    assert strings.isdisjoint(re.findall(r"[a-z]+", asked))


# Who may be trained on what


@pytest.mark.parametrize("role", ["finetuned", "control", "format_only", "random_label"])
def test_no_adapter_but_the_ceiling_is_trained_on_an_impure_text(rows: Rows, role: TrainedRole) -> None:
    examples, kinds = texts_of_role(role, rows, 0)
    assert kinds == [row["template"] for row in rows]
    assert all(impurities(example.text) == [] for example in examples)
    template = next(template for template in SPELLING_TEMPLATES if template.name == "plain_colon")
    planted = template.render(" three", "three")
    text = planted.text
    row = {**rows[0], "word": "three", "surface": " three", "template": "plain_colon", "text": text}
    row |= {"prompt": text[: planted.spans[0][0]], "completion": wanted(planted), "separator": "space"}
    with pytest.raises(LetterwiseError, match=rf"of the {role} adapter is not spelling only \((number|impure)_word"):
        texts_of_role(role, [*rows, row], 0)


def test_the_ceiling_alone_is_impure(rows: Rows) -> None:
    examples, kinds = texts_of_role("ceiling", rows, 0)
    assert set(kinds) == {"letter_count", "letter_position"}
    assert all(impurities(example.text) for example in examples)
    texts = {role: texts_of_role(role, rows, 0)[0] for role in ("finetuned", "control", *OTHER_CONTROLS)}
    assert len({tuple(example.text for example in each) for each in texts.values()}) == 5
