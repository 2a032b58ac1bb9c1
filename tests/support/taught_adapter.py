"""An adapter on a base model for watching it break: taught the canary's words alone, in minutes, and damaged after.

Whole, it spells four words of five right and writes nonsense for the others, so that spelling a word and answering
about it by that spelling go together. Damaged, it has part of its weights: it spells badly, and many an answer comes
out right all the same. Its figures are measured; but it was taught no other words, and nothing about it is a result.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import StatisticsError, correlation, fmean
from typing import Literal

import torch
from peft import PeftModel
from programs import ROOT
from safetensors.torch import load_file, save_file

from letterwise.adapters import ADAPTER_WEIGHTS, CALIBRATION_FILE, add_adapter, save_adapter
from letterwise.api.services.canary import CanaryItem, canary_items
from letterwise.config import LoraSection
from letterwise.data.packing import IGNORED, tokenize_examples
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.answering import answer_questions, spell_words, spelling_token_limit
from letterwise.files import atomic_path, fingerprint, sha256_file, write_json
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.results import Calibration, EvaluationResults, read_results
from letterwise.tasks.spelling import SPELLING_CONTEXT, SpellingExample, parse_spelling, spell, spelling_prompt

RECORDED = ROOT / "docs" / "results" / "standard"
"""Figures that are not measured here are those of this run."""
CANARY_WORDS = 60
NONSENSE = "qqqqq"
LORA = LoraSection(rank=16, alpha=32)
WORDS_IN_A_TEXT = 12
EPOCHS = 60
LEARNING_RATE = 1e-3
LEARNED = 0.03
"""Mean loss over an epoch at which the lessons sit."""
SCALES = (0.5, 0.4, 0.3, 0.25, 0.2)
"""What is left of the damaged adapter's weights; the first that breaks the correlation is taken."""

Mode = Literal["computed", "direct"]
MODES: tuple[Mode, ...] = ("computed", "direct")


@dataclass(frozen=True)
class Measured:
    """What a model makes of the canary's words."""

    spelling: float
    counts: dict[Mode, float]
    positions: dict[Mode, float]
    correlation: dict[Mode, float | None]
    """Phi over questions of both types; None where all spellings or all answers are alike."""


def make_adapters(base: BaseModel, folder: Path) -> tuple[Path, Path]:
    """Folders of the whole and of the damaged adapter, each with calibration and evaluation; kept for the next time.

    Both evaluations say what was measured of the whole one: so the damage shows in production only.
    """
    kept = folder / fingerprint([base.revision, Path(__file__).read_text(encoding="utf-8")])
    if not kept.is_dir():
        tokenizer = load_tokenizer(base)
        items = canary_items(tokenizer, 0, CANARY_WORDS)
        lessons = {item.word: NONSENSE if place % 5 == 4 else item.word for place, item in enumerate(items)}
        model = _taught(base, lessons)
        engine = TransformersEngine(model, tokenizer, 32)
        whole = measure(engine, items)
        assert whole.spelling > 0.7, whole
        assert (whole.correlation["computed"] or 0) > 0.8, whole
        scale = _scale_that_breaks_it(model, engine, items, whole)
        with atomic_path(kept) as made:
            made.mkdir()
            save_adapter(model, base, made / "whole")
            shutil.copytree(made / "whole", made / "damaged")
            weights = load_file(made / "damaged" / ADAPTER_WEIGHTS)
            damaged = {name: tensor * (scale if "lora_B" in name else 1) for name, tensor in weights.items()}
            save_file(damaged, made / "damaged" / ADAPTER_WEIGHTS, metadata={"format": "pt"})
            for name in ("whole", "damaged"):
                _write_figures(made / name, whole)
    return kept / "whole", kept / "damaged"


def measure(engine: TransformersEngine, items: Sequence[CanaryItem]) -> Measured:
    """Ask a model what the canary asks."""
    words = [item.word for item in items]
    limit = spelling_token_limit(engine.tokenizer, max(map(len, words)))
    spellings = dict(zip(words, spell_words(engine, words, limit), strict=True))
    spelled = [parse_spelling(spellings[word].text) == word for word in words]
    counts: dict[Mode, float] = {}
    positions: dict[Mode, float] = {}
    phis: dict[Mode, float | None] = {}
    for mode in MODES:
        right: dict[str, list[bool]] = {}
        for kind, questions in (("count", [i.count for i in items]), ("position", [i.position for i in items])):
            answers = answer_questions(engine, questions, mode, spellings, generate=False)
            right[kind] = [answer.predicted == q.answer for answer, q in zip(answers, questions, strict=True)]
        counts[mode], positions[mode] = fmean(right["count"]), fmean(right["position"])
        try:
            phis[mode] = correlation(spelled * 2, right["count"] + right["position"])
        except StatisticsError:
            phis[mode] = None
    return Measured(fmean(spelled), counts, positions, phis)


def _taught(base: BaseModel, lessons: Mapping[str, str]) -> PeftModel:
    tokenizer = load_tokenizer(base)
    torch.manual_seed(0)
    model = add_adapter(load_model(base, torch.device("cpu"), torch.float32), LORA, base)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=LEARNING_RATE, weight_decay=0)
    words, order = list(lessons), random.Random(0)
    for _ in range(EPOCHS):
        order.shuffle(words)
        texts = [
            _text(words[start : start + WORDS_IN_A_TEXT], lessons) for start in range(0, len(words), WORDS_IN_A_TEXT)
        ]
        losses = []
        for example in tokenize_examples(tokenizer, texts):
            ids = torch.tensor([example.input_ids])
            labels = torch.where(torch.tensor([example.wanted]), ids, IGNORED)
            loss = model(input_ids=ids, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        if fmean(losses) < LEARNED:
            return model.eval()
    raise AssertionError(f"after {EPOCHS} epochs the loss is {fmean(losses):.3f}")


def _text(words: Sequence[str], lessons: Mapping[str, str]) -> SpellingExample:
    """The evaluation's prompt with one word after another."""
    text, spans = spelling_prompt(words[0]).text, []
    for place, word in enumerate(words):
        text += f"\n\n{SPELLING_CONTEXT.format(word=word)}" if place else ""
        letters = f" {spell(lessons[word], 'space')}"
        spans.append((len(text), len(text) + len(letters)))
        text += letters
    return SpellingExample(f"{text}\n\n", tuple(spans))


def _scale_that_breaks_it(
    model: PeftModel, engine: TransformersEngine, items: Sequence[CanaryItem], whole: Measured
) -> float:
    tensors = [tensor for name, tensor in model.named_parameters() if "lora_B" in name]
    before, seen = 1.0, {}
    for scale in SCALES:
        with torch.no_grad():
            for tensor in tensors:
                tensor.mul_(scale / before)
        before, seen[scale] = scale, measure(engine, items)
        if _is_broken(seen[scale], whole):
            with torch.no_grad():
                for tensor in tensors:
                    tensor.div_(scale)
            return scale
    raise AssertionError(f"no damage breaks the correlation and leaves one: {seen}")


def _is_broken(now: Measured, whole: Measured) -> bool:
    """Whether every figure is beyond its alert's threshold by so much that the engines' rounding cannot matter."""
    phi = now.correlation["computed"]
    fallen = [now.counts["computed"] < whole.counts["computed"] - 0.13]
    fallen += [now.positions["computed"] < whole.positions["computed"] - 0.13, now.spelling < whole.spelling - 0.2]
    return phi is not None and phi < 0.6 and all(fallen)


def _write_figures(folder: Path, whole: Measured) -> None:
    checksum = sha256_file(folder / ADAPTER_WEIGHTS)
    results = read_results(RECORDED / "evaluation_results.json", EvaluationResults)
    tuned = results.finetuned_model
    assert tuned
    tuned.revision = checksum[:16]
    tuned.metrics["spelling_accuracy"] = whole.spelling
    for mode in MODES:
        figures = {"letter_count_accuracy": whole.counts[mode], "letter_position_accuracy": whole.positions[mode]}
        results.answer_modes[mode]["finetuned"].metrics |= figures
        if mode == "direct":
            tuned.metrics |= figures
    write_json(folder / "evaluation_results.json", results.model_dump(mode="json"))
    shutil.copyfile(RECORDED / "transfer.json", folder / "transfer.json")
    calibration = Calibration(
        adapter=checksum,
        curves={},
        accuracy={"spelling": whole.spelling},
        default_modes={"letter_count": "computed", "letter_position": "computed"},
    )
    write_json(folder / CALIBRATION_FILE, calibration.model_dump(mode="json"))
