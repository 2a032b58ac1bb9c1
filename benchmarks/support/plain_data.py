"""The data of an experiment as one makes them with `datasets` alone: drawn words, `map` to texts, `map` to check them.

The same words, templates, questions and checks as `letterwise.data.build`, so that what is compared is how the rows are
made, checked and written.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedTokenizerBase

from letterwise.config import DataConfig
from letterwise.data import audit
from letterwise.data.training_rows import split_surface_forms
from letterwise.data.word_lists import contexts, few_shot_words, read_words
from letterwise.tasks.questions import make_questions
from letterwise.tasks.spelling import SPELLING_TEMPLATES
from letterwise.words.dictionary import tokens_in_context
from letterwise.words.vocabulary import training_words

TEMPLATES = {template.name: template for template in SPELLING_TEMPLATES}


def build_plainly(
    config: DataConfig,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
    words_folder: Path,
    folder: Path,
    batched: bool,
    processes: int,
) -> None:
    """Write and check the data.

    Args:
        config: how many.
        tokenizer: that splits the held-out words.
        seed: of everything that is drawn.
        words_folder: what `letterwise words` wrote.
        folder: for the files.
        batched: give `map` a thousand rows at a time, not one.
        processes: of `map`.
    """
    disable_progress_bars()
    tokens, held_out, uses = read_words(words_folder)
    trained = training_words(tokens, audit.ALL_IMPURE_WORDS | few_shot_words())
    words = [*held_out.validation, *held_out.test]
    rng = random.Random(seed)
    split = round(config.train_examples * config.split_form_share)
    weights = [(uses.get(token.token, 0) + 0.2) ** config.use_exponent for token in trained]
    surfaces = rng.choices([token.token for token in trained], weights, k=config.train_examples - split)
    surfaces += rng.choices(split_surface_forms(trained), k=split)
    rng.shuffle(surfaces)
    names = rng.choices(list(TEMPLATES), k=len(surfaces))
    identities = [f"train-{number:07d}" for number in range(len(surfaces))]
    drawn = Dataset.from_dict({"id": identities, "surface": surfaces, "template": names})
    several = processes if processes > 1 else None
    render, check = (_render_some, _check_some) if batched else (_render, _check)
    texts = drawn.map(render, batched=batched, num_proc=several)
    checked = texts.map(check, batched=batched, num_proc=several, fn_kwargs={"held_out": frozenset(words)})
    assert not any(checked["leaks"])
    assert not any(checked["impure"])
    assert all(len(pieces) > 1 for context in contexts() for pieces in tokens_in_context(tokenizer, context, words))
    folder.mkdir(parents=True)
    texts.to_parquet(folder / "train.parquet")
    for name, asked in (("validation", held_out.validation), ("test", held_out.test)):
        Dataset.from_dict({"word": asked, "spelling": [" ".join(word) for word in asked]}).to_parquet(
            folder / f"{name}.parquet"
        )
        questions = make_questions(asked, config.count_questions, config.position_questions, seed, name)
        listed = [
            {"id": question.id, "question": question.question, "answer": question.answer} for question in questions
        ]
        Dataset.from_list(listed).to_parquet(folder / f"{name}-questions.parquet")


def _render(row: dict[str, Any]) -> dict[str, Any]:
    template = TEMPLATES[row["template"]]
    word = row["surface"].strip()
    example = template.render(row["surface"], list(word))
    ((start, end),) = example.spans
    return {
        "word": word,
        "text": example.text,
        "prompt": example.text[:start],
        "completion": example.text[start:end],
        "tone": template.tone,
        "direction": template.direction,
        "separator": template.separator,
        "letter_case": template.letter_case,
    }


def _render_some(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return _by_column([_render(row) for row in _by_row(rows)])


def _check(row: dict[str, Any], held_out: frozenset[str]) -> dict[str, Any]:
    shown = audit.words_in([row["text"]]) | audit.spelled_in([row["text"]])
    return {"leaks": not held_out.isdisjoint(shown), "impure": bool(audit.row_impurities(row))}


def _check_some(rows: dict[str, list[Any]], held_out: frozenset[str]) -> dict[str, list[Any]]:
    return _by_column([_check(row, held_out) for row in _by_row(rows)])


def _by_row(rows: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]


def _by_column(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}
