from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.analysis_results import ItemAnalysis
from letterwise.errors import LetterwiseError
from letterwise.evaluation.item_analysis import analyse_items, item_properties
from letterwise.evaluation.statistics import wilson_interval
from letterwise.results import read_results, write_results
from letterwise.tasks.questions import Question, count_question, make_questions, position_question, question_context
from letterwise.words.dictionary import tokens_in_context

WORDS = ["garlic", "thistle", "lantern", "strawberry", "meadow"]


def table(questions: list[Question]) -> pd.DataFrame:
    rows = [
        {
            **{"id": f"q{place}", "question": each.question, "question_type": each.question_type, "word": each.word},
            **{"letter": each.letter, "position": each.position, "answer": each.answer},
            "word_length": len(each.word),
        }
        for place, each in enumerate(questions)
    ]
    return pd.DataFrame(rows).astype({"position": "Int64"})


def test_every_phrasing_is_found_again_even_where_it_holds_the_word_twice() -> None:
    for question in make_questions(WORDS, 40, 36, seed=1, prefix="x"):
        context = question_context(question)
        assert context.count("{word}") == 1
        assert context.replace("{word}", question.word) == question.question
    odd = position_question("word", 1, "in_the_word")
    assert question_context(odd) == "In the word {word}, what is the 1st letter?"
    with pytest.raises(LetterwiseError, match="worded as this version asks none"):
        question_context(Question("", "Which letter?", "g", "letter_position", "garlic", position=1))


def test_tokens_are_those_of_the_question_and_the_letter_has_its_place_in_one(
    tiny_tokenizer: PreTrainedTokenizerBase,
) -> None:
    asked = [position_question(word, place, "which_of") for word in WORDS for place in range(1, len(word) + 1)]
    properties = item_properties(table(asked), tiny_tokenizer)
    for question, found in zip(asked, properties.to_dict("records"), strict=True):
        (parts,) = tokens_in_context(tiny_tokenizer, question_context(question), [question.word])
        places = [
            "only" if len(part) == 1 else "first" if i == 0 else "last" if i == len(part) - 1 else "inner"
            for part in parts
            for i in range(len(part))
        ]
        assert found["n_tokens"] == len(parts)
        assert found["token_place"] == places[(question.position or 0) - 1]
    assert set(properties["token_place"]) >= {"first", "last", "inner"}
    # Behind a quotation mark a word may be cut elsewhere than behind a space.
    plain = item_properties(table([position_question(word, 1, "comes") for word in WORDS]), tiny_tokenizer)
    quoted = item_properties(table([position_question(word, 1, "letter_in") for word in WORDS]), tiny_tokenizer)
    assert plain["n_tokens"].tolist() != quoted["n_tokens"].tolist()


def test_counts_and_frequencies(tiny_tokenizer: PreTrainedTokenizerBase) -> None:
    asked = [count_question("strawberry", letter) for letter in "xsr"] + [count_question("assesses", "s")]
    properties = item_properties(table(asked), tiny_tokenizer)
    assert properties["true_count"].tolist() == ["0", "1", "3+", "3+"]
    assert properties["token_place"].isna().all()
    assert properties["zipf"].tolist() == [3.72, 3.72, 3.72, 2.93]


def test_an_analysis_finds_the_built_in_effect_and_survives_the_round_trip(
    make_tables, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    spelling, questions = make_tables(words=400)
    analysis = analyse_items(spelling, questions, tiny_tokenizer)
    write_results(tmp_path / "item_analysis.json", analysis)
    assert read_results(tmp_path / "item_analysis.json", ItemAnalysis) == analysis
    assert len(analysis.items) == 3 * 2 * 3

    tuned = analysis.find("finetuned", "letter_position", "direct")
    assert tuned
    spelled = tuned.odds_ratios["spelled"]
    assert spelled.interval is not None
    # Built in: 80% right where the word is spelled, 30% where it is not.
    assert 1 < spelled.interval[0] < (0.8 / 0.2) / (0.3 / 0.7) < spelled.interval[1]
    assert spelled.n == 400
    assert {"word_length", "n_tokens", "zipf", "position_class.last", "token_place.inner"} <= tuned.odds_ratios.keys()
    assert tuned.accuracy_by.keys() == {"word_length", "n_tokens", "zipf", "position_class", "token_place"}

    base = analysis.find("base", "letter_count", "direct")
    assert base
    assert base.accuracy_by.keys() == {"word_length", "n_tokens", "true_count", "zipf"}
    asked = questions.query("model == 'base' and question_type == 'letter_count' and mode == 'direct'")
    ones = asked[asked["answer"] == "1"]["correct"]
    found = base.accuracy_by["true_count"]["1"]
    assert (found.value, found.n) == (ones.mean(), len(ones))
    assert found.interval == wilson_interval(int(ones.sum()), len(ones))
    assert sum(group.n or 0 for group in base.accuracy_by["zipf"].values()) == 400


def test_words_that_a_model_was_not_asked_to_spell_are_left_out_of_the_regression(
    make_tables, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    spelling, questions = make_tables(words=400, modes=["direct"])
    some = spelling[spelling["word"].isin(spelling["word"].unique()[:300])]
    analysis = analyse_items(some, questions, tiny_tokenizer)
    tuned = analysis.find("finetuned", "letter_position", "direct")
    assert tuned
    assert (tuned.accuracy.n, tuned.odds_ratios["spelled"].n) == (400, 300)
    none = analyse_items(spelling[:0], questions, tiny_tokenizer)
    assert all(np.isnan(each.odds_ratios["spelled"].value or np.nan) for each in none.items)
    assert analyse_items(spelling, questions[:0], tiny_tokenizer).items == []
