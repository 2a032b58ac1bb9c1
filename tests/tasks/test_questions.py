import dataclasses
import random
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex
from tokenizers.pre_tokenizers import ByteLevel, PreTokenizer, Split

from letterwise.errors import LetterwiseError
from letterwise.tasks import letter_count, letter_position
from letterwise.tasks.questions import (
    COUNT_CLASSES,
    FEW_SHOT_EXAMPLES,
    FEW_SHOT_WORDS,
    Question,
    count_question,
    direct_prompt,
    make_questions,
    position_question,
    question_contexts,
    spell_first_prompt,
)

STRAWBERRY_COUNT = count_question("strawberry", "r")
STRAWBERRY_POSITION = position_question("strawberry", 3)


def made_up_words(number: int, seed: int = 0) -> list[str]:
    """Words of 4 to 12 letters over a small alphabet in which e is frequent, so that every count is common."""
    rng = random.Random(seed)
    words: set[str] = set()
    while len(words) < number:
        words.add("".join(rng.choices("eaitnrsq", [8, 6, 5, 4, 4, 4, 3, 1], k=rng.randint(4, 12))))
    return sorted(words)


def counts(questions: list[Question]) -> list[Question]:
    return [question for question in questions if question.question_type == "letter_count"]


def positions(questions: list[Question]) -> list[Question]:
    return [question for question in questions if question.question_type == "letter_position"]


def test_a_question_is_a_row_of_the_published_dataset() -> None:
    assert dataclasses.asdict(count_question("strawberry", "r", question_id="test-count-0001")) == {
        "id": "test-count-0001",
        "question": "How many r's are in the word 'strawberry'?",
        "answer": "3",
        "question_type": "letter_count",
        "word": "strawberry",
        "letter": "r",
        "position": None,
    }
    assert dataclasses.asdict(STRAWBERRY_POSITION) == {
        "id": "",
        "question": "What is the 3rd letter in 'strawberry'?",
        "answer": "r",
        "question_type": "letter_position",
        "word": "strawberry",
        "letter": None,
        "position": 3,
    }


@pytest.mark.parametrize(("letter", "count_class"), [("z", "0"), ("s", "1"), ("l", "2"), ("i", "3+"), ("p", "3+")])
def test_count_class(letter: str, count_class: str) -> None:
    question = count_question("philippipolis", letter)
    assert (question.count_class, question.position_class) == (count_class, None)


@pytest.mark.parametrize(("position", "position_class"), [(1, "first"), (2, "inner"), (9, "inner"), (10, "last")])
def test_position_class(position: int, position_class: str) -> None:
    question = position_question("strawberry", position)
    assert (question.position_class, question.count_class) == (position_class, None)


def test_a_question_knows_its_valid_answers_and_how_to_read_one() -> None:
    assert STRAWBERRY_COUNT.candidates() == list("0123456789")
    assert STRAWBERRY_COUNT.parse("There are three r's.") == "3"
    assert STRAWBERRY_POSITION.candidates() == list("abcdefghijklmnopqrstuvwxyz")
    assert STRAWBERRY_POSITION.parse("It is an R.") == "r"


def test_contexts_hold_every_way_in_which_a_question_touches_the_word() -> None:
    def touching(text: str) -> str:
        return text.replace("strawberry", "{word}").partition("{word}")[0][-1] + next(
            part for part in text.replace("strawberry", "{word}").split() if "{word}" in part
        )

    asked = [count_question("strawberry", "r", name).question for name in letter_count.PHRASINGS]
    asked += [position_question("strawberry", 3, name).question for name in letter_position.PHRASINGS]
    contexts = question_contexts()
    assert {touching(context) for context in contexts} == {touching(question) for question in asked}
    assert all(context.count("{word}") == 1 and "{" not in context.replace("{word}", "") for context in contexts)


def test_truth_is_what_brute_force_finds() -> None:
    for question in make_questions(made_up_words(200), 200, 200, seed=1, prefix="test"):
        if question.letter is not None:
            assert question.answer == str(sum(letter == question.letter for letter in question.word))
        else:
            assert question.position is not None
            assert question.answer == list(question.word)[question.position - 1]
        assert question.word in question.question
        assert question.parse(question.answer) == question.answer


def test_classes_are_balanced_in_the_whole_and_in_any_beginning() -> None:
    questions = make_questions(made_up_words(300), 400, 300, seed=2, prefix="test")
    assert Counter(question.count_class for question in counts(questions)) == dict.fromkeys(COUNT_CLASSES, 100)
    assert Counter(question.position_class for question in positions(questions)) == dict.fromkeys(
        ("first", "inner", "last"), 100
    )
    assert Counter(question.count_class for question in counts(questions)[:20]) == dict.fromkeys(COUNT_CLASSES, 5)


def test_phrasings_are_dealt_evenly_within_each_class() -> None:
    questions = make_questions(made_up_words(300), 320, 240, seed=2, prefix="test")
    phrased = {
        count_question(question.word, question.letter, name).question: name
        for question in counts(questions)
        for name in letter_count.PHRASINGS
        if question.letter is not None
    } | {
        position_question(question.word, question.position, name).question: name
        for question in positions(questions)
        for name in letter_position.PHRASINGS
        if question.position is not None
    }
    shares = Counter(
        (question.count_class or question.position_class, phrased[question.question]) for question in questions
    )
    assert len(shares) == 7 * 8
    assert set(shares.values()) == {10}


def test_where_few_words_have_a_letter_three_times_the_other_answers_make_up_for_it() -> None:
    words = ["banana", *("".join(random.Random(seed).sample("abcdeilnorst", 6)) + "zz" for seed in range(60))]
    questions = make_questions(words, 100, 0, seed=0, prefix="test")
    assert Counter(question.count_class for question in questions) == {"0": 33, "1": 33, "2": 33, "3+": 1}


def test_words_are_used_evenly_and_no_question_is_repeated() -> None:
    questions = make_questions(made_up_words(150), 300, 450, seed=3, prefix="test")
    assert len({(question.word, question.letter, question.position) for question in questions}) == 750
    assert set(Counter(question.word for question in positions(questions)).values()) == {3}
    assert set(Counter(question.word for question in counts(questions)).values()) <= {1, 2, 3}


def test_absent_letters_are_as_common_as_in_the_words() -> None:
    absent = [
        question.letter
        for question in counts(make_questions(made_up_words(1000), 1600, 0, seed=4, prefix="test"))
        if question.answer == "0"
    ]
    share = {letter: absent.count(letter) / len(absent) for letter in "eaitnrsq"}
    # e is 8 of 35 letters and q 1 of 35; drawn uniformly over the pairs, q would come up four times as often as e.
    assert share["e"] > 4 * share["q"]
    assert share["q"] < 0.07
    assert sum(share.values()) > 0.99


@given(seed=st.integers(0, 2**32 - 1), data=st.data())
@settings(max_examples=20, deadline=None)
def test_the_order_of_the_words_does_not_matter(seed: int, data: st.DataObject) -> None:
    words = made_up_words(30)
    shuffled = data.draw(st.permutations(words))
    assert make_questions(shuffled + shuffled[:5], 40, 40, seed, "test") == make_questions(words, 40, 40, seed, "test")


def test_the_seed_matters_and_the_types_do_not_disturb_each_other() -> None:
    words = made_up_words(100)
    questions = make_questions(words, 50, 50, seed=0, prefix="test")
    assert counts(questions) != counts(make_questions(words, 50, 50, seed=1, prefix="test"))
    assert positions(questions) == make_questions(words, 0, 50, seed=0, prefix="test")


def test_string_hashing_does_not_matter() -> None:
    script = (
        "from letterwise.tasks.questions import make_questions;"
        "print(make_questions(['strawberry', 'banana', 'apple', 'committee'], 12, 12, 0, 'test'))"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": hash_seed}, check=True, capture_output=True
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_identifiers_number_each_type() -> None:
    questions = make_questions(made_up_words(20), 2, 2, seed=0, prefix="validation")
    assert [question.id for question in questions] == [
        "validation-count-0001",
        "validation-count-0002",
        "validation-position-0001",
        "validation-position-0002",
    ]


def test_too_few_words_are_refused_with_the_remedy() -> None:
    with pytest.raises(LetterwiseError, match="no words to ask about"):
        make_questions([], 1, 1, seed=0, prefix="test")
    with pytest.raises(LetterwiseError, match=r"only 26 different questions .* use more words"):
        make_questions(["banana"], 27, 0, seed=0, prefix="test")
    with pytest.raises(LetterwiseError, match="only 6 different questions"):
        make_questions(["banana"], 26, 7, seed=0, prefix="test")
    assert len(make_questions(["banana"], 26, 6, seed=0, prefix="test")) == 32


def test_direct_prompt() -> None:
    prompt = direct_prompt(STRAWBERRY_POSITION)
    assert prompt.text.startswith("Question: What is the 3rd letter in 'bridge'?\nAnswer: i\n\nQuestion: ")
    assert prompt.text.endswith("Answer: k\n\nQuestion: What is the 3rd letter in 'strawberry'?\nAnswer:")
    assert prompt.header == direct_prompt(position_question("banana", 1)).header
    assert prompt.header != direct_prompt(STRAWBERRY_COUNT).header
    assert "Spelling" not in prompt.text


def test_spell_first_prompt_shows_the_given_spelling_right_or_wrong() -> None:
    prompt = spell_first_prompt(STRAWBERRY_COUNT, "strbery")
    assert prompt.text.startswith(
        "Question: How many t's are in the word 'butter'?\nSpelling: b u t t e r\nAnswer: 2\n\nQuestion: "
    )
    assert prompt.text.endswith(
        "Question: How many r's are in the word 'strawberry'?\nSpelling: s t r b e r y\nAnswer:"
    )
    assert spell_first_prompt(STRAWBERRY_COUNT, "").body.endswith("?\nSpelling:\nAnswer:")


LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    "splitter",
    [ByteLevel(add_prefix_space=False), Split(Regex(LLAMA_3), "isolated")],
    ids=["gpt2", "llama3"],
)
@pytest.mark.parametrize("question", [STRAWBERRY_COUNT, STRAWBERRY_POSITION], ids=["count", "position"])
def test_header_and_body_may_be_tokenized_apart(splitter: PreTokenizer, question: Question) -> None:
    def pieces(text: str) -> list[str]:
        return [piece for piece, _ in splitter.pre_tokenize_str(text)]

    for prompt in (direct_prompt(question), spell_first_prompt(question, "strawberry")):
        assert pieces(prompt.header) + pieces(prompt.lead + prompt.body) == pieces(prompt.text)


def test_few_shot_examples_cover_the_classes_with_ordinary_words() -> None:
    assert [question.answer for question in FEW_SHOT_EXAMPLES["letter_count"]] == ["2", "0", "3", "1"]
    assert {question.position_class for question in FEW_SHOT_EXAMPLES["letter_position"]} == {"first", "inner", "last"}
    assert len(FEW_SHOT_WORDS) == 8
    assert all(word.isalpha() and word.islower() and 5 <= len(word) <= 9 for word in FEW_SHOT_WORDS)
    assert FEW_SHOT_WORDS.isdisjoint({"garden", "window", "planet"})


@pytest.mark.parametrize("phrasing", letter_count.PHRASINGS)
def test_questions_about_one_letter_share_all_that_stands_before_the_word(phrasing: str) -> None:
    one, other = (direct_prompt(count_question(word, "r", phrasing)) for word in ("strawberry", "tree"))
    assert (one.header, one.lead) == (other.header, other.lead)
    assert one.lead == "\n\nQuestion: " + letter_count.PHRASINGS[phrasing].partition("{word}")[0].format(letter="r")
    assert one.body.startswith("strawberry")


def test_a_word_that_the_question_itself_contains_changes_no_prompt() -> None:
    for word in ("in", "the", "question", "many", "n"):
        prompt = direct_prompt(count_question(word, "n"))
        assert prompt.text.endswith(f"\n\nQuestion: How many n's are in the word '{word}'?\nAnswer:")
