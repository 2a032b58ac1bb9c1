from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from letterwise.data.audit import ALL_IMPURE_WORDS, impurities
from letterwise.data.build import build_data, load_data, load_questions
from letterwise.data.training_rows import split_surface_forms
from letterwise.data.word_lists import few_shot_words, read_words
from letterwise.data_config import DataConfig
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.results import DataAudit
from letterwise.tasks.spelling import LENGTH_WORDS, SPELLING_TEMPLATES, parse_spelling
from letterwise.words.vocabulary import LetterToken

SETTINGS = DataConfig(train_examples=400, count_questions=40, position_questions=40)


def build(
    tokenizer: PreTrainedTokenizerBase, words_folder: Path, folder: Path, seed: int = 0, **changes: object
) -> DataAudit:
    return build_data(SETTINGS.model_copy(update=changes), tokenizer, seed, words_folder, folder)


def doctored(words_folder: Path, folder: Path, **changes: list[str]) -> Path:
    """A copy of the word lists with something wrong in it."""
    folder.mkdir()
    (folder / "tokens.json").write_bytes((words_folder / "tokens.json").read_bytes())
    held_out = json.loads((words_folder / "held_out_words.json").read_text())
    for split, extra in changes.items():
        held_out[split] = [*held_out.get(split, []), *extra]
    (folder / "held_out_words.json").write_text(json.dumps(held_out))
    return folder


def test_the_same_seed_gives_the_same_bytes(
    tmp_path: Path, words_folder: Path, data_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    audit = build(tiny_tokenizer, words_folder, tmp_path / "data")
    assert len(audit.checksums) == 5
    for name, checksum in audit.checksums.items():
        assert sha256_file(data_folder / name) == sha256_file(tmp_path / "data" / name) == checksum
    assert build(tiny_tokenizer, words_folder, tmp_path / "data") == audit
    other = build(tiny_tokenizer, words_folder, tmp_path / "data", seed=1).checksums
    changed = {name for name in other if other[name] != audit.checksums[name]}
    assert changed == {"spelling/train.parquet", "position_count/validation.parquet", "position_count/test.parquet"}


def test_the_columns_are_those_that_are_published(data_folder: Path) -> None:
    columns = {"id", "word", "surface", "text", "prompt", "completion"}
    columns |= {"template", "tone", "direction", "separator", "letter_case"}
    for split in ("train", "validation", "test"):
        assert set(pq.read_schema(data_folder / "spelling" / f"{split}.parquet").names) == columns
    for split in ("validation", "test"):
        schema = pq.read_schema(data_folder / "position_count" / f"{split}.parquet")
        assert schema.names == ["id", "question", "answer", "question_type", "word", "letter", "position"]


def test_training_texts_are_about_training_words_only(data_folder: Path, words_folder: Path) -> None:
    tokens, held_out, _ = read_words(words_folder)
    spelling, _ = load_data(data_folder)
    rows = spelling["train"].to_list()
    assert {row["word"].lower() for row in rows} <= {token.letters.lower() for token in tokens}
    reserved = {*held_out.validation, *held_out.test, *few_shot_words(), *ALL_IMPURE_WORDS}
    assert not {row["word"].lower() for row in rows} & reserved
    assert all(impurities(row["text"]) == [] for row in rows)
    assert len({row["id"] for row in rows}) == len(rows) == 400


def test_a_training_text_teaches_the_true_spelling(data_folder: Path) -> None:
    spelling, _ = load_data(data_folder)
    for row in spelling["train"]:
        assert row["text"].startswith(row["prompt"] + row["completion"])
        if row["direction"] == "spelling_first":
            assert row["completion"].strip(' "') == row["word"]
        elif row["separator"] == "none":
            assert row["completion"].strip() == row["word"].upper()
        else:
            assert parse_spelling(row["completion"]) == row["word"].lower()


def test_no_template_is_over_represented(data_folder: Path) -> None:
    spelling, _ = load_data(data_folder)
    counts = Counter(spelling["train"]["template"])
    assert counts.keys() == {template.name for template in SPELLING_TEMPLATES}
    assert max(counts.values()) - min(counts.values()) <= 1


def test_every_word_is_dealt_and_useful_ones_more_often(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    _, _, uses = read_words(words_folder)

    def dealt(exponent: float) -> Counter[str]:
        build(
            tiny_tokenizer,
            words_folder,
            tmp_path / "data",
            train_examples=6000,
            use_exponent=exponent,
            split_form_share=0.0,
        )
        return Counter(load_data(tmp_path / "data")[0]["train"]["surface"])

    evenly, by_use = dealt(0.0), dealt(0.5)
    assert max(evenly.values()) - min(evenly.values()) <= 1
    assert evenly.keys() == by_use.keys()
    ranked = sorted(by_use, key=lambda surface: uses.get(surface, 0))
    rare, common = ranked[: len(ranked) // 4], ranked[-len(ranked) // 4 :]
    assert sum(by_use[surface] for surface in common) > 4 * sum(by_use[surface] for surface in rare)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_words_stands_in_forms_that_the_tokenizer_splits(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, share: float
) -> None:
    tokens, _, _ = read_words(words_folder)
    surfaces = {token.token for token in tokens}
    build(tiny_tokenizer, words_folder, tmp_path / "data", split_form_share=share)
    rows = load_data(tmp_path / "data")[0]["train"].to_list()
    split = [row["surface"] for row in rows if row["surface"] not in surfaces]
    assert len(split) == share * len(rows)
    assert all(len(tiny_tokenizer.tokenize(surface)) > 1 for surface in split)
    # The words themselves are those of the vocabulary.
    assert {surface.strip().lower() for surface in split} <= {token.letters.lower() for token in tokens}


def test_split_forms_are_the_usual_ones_of_words_long_enough() -> None:
    tokens = [LetterToken(" straw", 1, 5), LetterToken("Straw", 2, 5), LetterToken("be", 3, 2)]
    assert split_surface_forms(tokens) == [" Straw", "straw"]


def test_held_out_words_are_asked_as_in_the_evaluation(data_folder: Path, words_folder: Path) -> None:
    _, held_out, _ = read_words(words_folder)
    spelling, questions = load_data(data_folder)
    for split, words in (("validation", held_out.validation), ("test", held_out.test)):
        assert spelling[split]["word"][:] == words
        for row in spelling[split]:
            assert row["prompt"] == f"Word: {row['word']}\nSpelling:"
            assert parse_spelling(row["completion"]) == row["word"]
        asked = load_questions(questions[split])
        assert {question.word for question in asked} <= set(words)
        assert Counter(question.question_type for question in asked) == {"letter_count": 40, "letter_position": 40}
        for question in asked:
            if question.letter is not None:
                assert question.answer == str(question.word.count(question.letter))
            else:
                assert question.position is not None
                assert question.answer == question.word[question.position - 1]


def test_the_audit_tells_the_sizes_and_that_nothing_leaks(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    audit = build(tiny_tokenizer, words_folder, tmp_path / "data")
    assert audit.passed
    assert set(audit.overlaps.values()) == set(audit.purity_violations.values()) == {0}
    assert {"train∩validation", "train∩test", "validation∩test", "training_texts∩held_out"} <= audit.overlaps.keys()
    assert audit.single_token_held_out_words == 0
    assert audit.n["training_texts"] == 400
    assert audit.n["validation_words"] == audit.n["test_words"] == 60
    assert audit.n["test.letter_count"] == 40
    assert sum(audit.template_shares.values()) == pytest.approx(1, abs=1e-4)
    assert sum(audit.answer_distribution["test.letter_count"].values()) == 40
    assert audit.excluded_training_tokens["impure_word"] > 0
    assert not audit.length_sentences


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_training_word_among_the_held_out_ones_fails_the_build(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, split: str
) -> None:
    tokens, _, _ = read_words(words_folder)
    planted = next(token.letters for token in tokens if token.char_length >= 5).lower()
    words = doctored(words_folder, tmp_path / "words", **{split: [planted]})
    with pytest.raises(LetterwiseError, match=f"The data would leak: '{planted}' is both in train and in {split}"):
        build(tiny_tokenizer, words, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_word_in_both_splits_fails_the_build(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    _, held_out, _ = read_words(words_folder)
    planted = held_out.validation[0]
    words = doctored(words_folder, tmp_path / "words", test=[planted])
    with pytest.raises(LetterwiseError, match=f"'{planted}' is both in validation and in test"):
        build(tiny_tokenizer, words, tmp_path / "data")


def test_extra_words_have_their_share_of_the_texts(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens, _, _ = read_words(words_folder)
    extra = ["thistle", "wardrobe", "quarrelsome"]
    words = doctored(words_folder, tmp_path / "words", extra_training=extra)
    audit = build(tiny_tokenizer, words, tmp_path / "data", extra_word_share=0.2, split_form_share=0.5)
    surfaces = [row["surface"] for row in load_data(tmp_path / "data")[0]["train"]]
    about_extra = [surface for surface in surfaces if surface.strip().lower() in extra]
    assert len(about_extra) == 80
    assert Counter(surface.strip().lower() for surface in about_extra).keys() == set(extra)
    assert {" thistle", "thistle", " Thistle", "Thistle"} <= set(about_extra)
    assert sum(surface in {token.token for token in tokens} for surface in surfaces) == 160
    assert audit.n["extra_training_words"] == 3
    assert audit.overlaps["extra_train∩test"] == audit.overlaps["train∩extra_train"] == 0


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_held_out_word_among_the_extra_ones_fails_the_build(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, split: str
) -> None:
    _, held_out, _ = read_words(words_folder)
    planted = getattr(held_out, split)[0]
    words = doctored(words_folder, tmp_path / "words", extra_training=["thistle", planted.capitalize()])
    with pytest.raises(
        LetterwiseError, match=f"The data would leak: '{planted}' is both in extra_train and in {split}"
    ):
        build(tiny_tokenizer, words, tmp_path / "data")


@pytest.mark.parametrize("planted", ["garden", "painter"])
def test_a_held_out_word_that_a_prompt_or_template_shows_fails_the_build(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase, planted: str
) -> None:
    words = doctored(words_folder, tmp_path / "words", test=[planted])
    with pytest.raises(LetterwiseError, match=f"The data would leak: '{planted}' is both in"):
        build(tiny_tokenizer, words, tmp_path / "data")


def test_a_held_out_word_of_one_token_fails_the_build(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    tokens, _, _ = read_words(words_folder)
    words = doctored(words_folder, tmp_path / "words")
    planted = next(token for token in tokens if token.leading_space and token.token.islower() and token.char_length > 4)
    left = [token for token in tokens if token.letters.lower() != planted.letters]
    (words / "tokens.json").write_text(
        json.dumps({"tokens": [{"token": t.token, "token_id": t.token_id, "char_length": t.char_length} for t in left]})
    )
    words = doctored(words, tmp_path / "planted", test=[planted.letters])
    with pytest.raises(LetterwiseError, match=f"The held-out word '{planted.letters}' is a single token"):
        build(tiny_tokenizer, words, tmp_path / "data")


def test_impure_templates_come_with_their_flag_only(
    tmp_path: Path, words_folder: Path, tiny_tokenizer: PreTrainedTokenizerBase
) -> None:
    audit = build(tiny_tokenizer, words_folder, tmp_path / "data", length_sentences=True)
    assert audit.length_sentences
    assert {name for name in audit.template_shares if name.startswith("length_")} == {
        *("length_has", "length_structured")
    }
    # What the other templates make is as pure as ever.
    assert set(audit.purity_violations.values()) == {0}
    rows = load_data(tmp_path / "data")[0]["train"].to_list()
    with_lengths = [row for row in rows if row["template"] == "length_has"]
    assert with_lengths
    for row in with_lengths:
        assert f" has {LENGTH_WORDS[len(row['word']) - 2]} letters: " in row["text"]


def test_missing_or_broken_data_names_the_remedy(tmp_path: Path, data_folder: Path) -> None:
    with pytest.raises(LetterwiseError, match="run `letterwise data` again"):
        load_data(tmp_path)
    for path in data_folder.rglob("*.parquet"):
        copy = tmp_path / path.relative_to(data_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes()[:100])
    with pytest.raises(LetterwiseError, match="run `letterwise data` again"):
        load_data(tmp_path)
