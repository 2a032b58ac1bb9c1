"""The stored predictions of a published model: made when it is bundled, repeated by whoever downloads it.

In float32 on the processor, where base plus adapter and the merged model answer alike. Knows prompts and an engine;
knows nothing about the Hub.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch

from letterwise.adapters import load_adapter
from letterwise.data.build import load_data, load_questions
from letterwise.engines.engine import Engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.publication import StoredPrediction, StoredPredictions
from letterwise.reporting.model_card import SPELLING_TOKENS
from letterwise.results import QUESTION_TYPES
from letterwise.tasks.questions import Prompt, direct_prompt
from letterwise.tasks.spelling import spelling_prompt

COUNTS = {"spelling": 20, "letter_count": 15, "letter_position": 15}
TOLERANCE = 0.01
"""How far a probability may be off: processors round differently."""
_QUESTION_TOKENS = 12
_Item = TypeVar("_Item")


def load_engine(base: BaseModel, adapter: Path | None) -> Engine:
    """The base model, with an adapter if one is given, in float32 on the processor.

    Raises:
        LetterwiseError: the model or the adapter cannot be loaded.
    """
    model = load_model(base, torch.device("cpu"), torch.float32)
    return TransformersEngine(load_adapter(model, adapter, base) if adapter else model, load_tokenizer(base), 16)


def record_predictions(engine: Engine, data_folder: Path, split: str) -> StoredPredictions:
    """Ask the model about words and questions spread over the split that was evaluated."""
    spelling, position_count = load_data(data_folder)
    limits: dict[str, int] = dict.fromkeys(QUESTION_TYPES, _QUESTION_TOKENS)
    limits["spelling"] = SPELLING_TOKENS
    predictions = []
    for row in _spread(list(spelling[split]), COUNTS["spelling"]):
        prompt = spelling_prompt(row["word"])
        predictions.append(_item(row["id"], "spelling", prompt, row["completion"].strip()))
    questions = load_questions(position_count[split])
    for question_type in QUESTION_TYPES:
        for question in _spread([q for q in questions if q.question_type == question_type], COUNTS[question_type]):
            item = _item(question.id, question_type, direct_prompt(question), question.answer)
            predictions.append(item.model_copy(update={"candidates": question.candidates()}))
    return answer(engine, StoredPredictions(max_new_tokens=limits, predictions=predictions))


def answer(engine: Engine, stored: StoredPredictions) -> StoredPredictions:
    """The same prompts, as this model answers them."""
    answered: dict[str, StoredPrediction] = {}
    for task, limit in stored.max_new_tokens.items():
        items = [item for item in stored.predictions if item.task == task]
        prompts = [Prompt(item.header, item.body) for item in items]
        texts = engine.generate(prompts, limit)
        scores = engine.score(prompts, [item.candidates for item in items]) if task != "spelling" else [[]] * len(items)
        for item, generation, probabilities in zip(items, texts, scores, strict=True):
            rounded = [round(value, 6) for value in probabilities]
            answered[item.id] = item.model_copy(update={"generated_text": generation.text, "probabilities": rounded})
    return stored.model_copy(update={"predictions": [answered[item.id] for item in stored.predictions]})


def differences(stored: StoredPredictions, repeated: StoredPredictions) -> list[str]:
    """A sentence about each prediction that did not come out as it was stored."""
    problems = []
    for before, now in zip(stored.predictions, repeated.predictions, strict=True):
        if before.task == "spelling":
            if before.generated_text != now.generated_text:
                problems.append(f"{before.id}: wrote '{now.generated_text}' where '{before.generated_text}' is stored")
        elif len(before.probabilities) != len(now.probabilities):
            problems.append(
                f"{before.id}: {len(before.probabilities)} probabilities are stored of {len(now.candidates)}"
            )
        else:
            gap, candidate = max(
                (abs(one - other), candidate)
                for one, other, candidate in zip(before.probabilities, now.probabilities, now.candidates, strict=True)
            )
            if gap > TOLERANCE:
                problems.append(f"{before.id}: the probability of '{candidate}' is {gap:.3f} away from the stored one")
    return problems


def _item(identity: str, task: str, prompt: Prompt, truth: str) -> StoredPrediction:
    return StoredPrediction(
        id=identity,
        task=task,
        header=prompt.header,
        body=prompt.body,
        answer=truth,
        generated_text="",
    )


def _spread(items: Sequence[_Item], count: int) -> list[_Item]:
    """`count` of the items at even distances; all of them if there are fewer."""
    count = min(count, len(items))
    return [items[place * len(items) // count] for place in range(count)]
