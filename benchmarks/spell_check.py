"""Spell checking on human misspellings: ours, with and without the model, beside symspellpy and pyspellchecker.

The misspellings are codespell's: single words of letters a to z with exactly one correction. They are split by the
correction into a development half, on which everything in letterwise.api.services.spell_checking was chosen, and a test
half. Two kinds of correct words show the false alarms: codespell's corrections, many of them rare or technical words,
which no checker knows beforehand, and words of english-words with a Zipf frequency of 2 or more, which ours knows all.
Writes benchmarks/results/spell_check.json.

    pip install codespell pyspellchecker
    python benchmarks/spell_check.py checkpoints/quick/finetuned/best          # measures on the test half
    python benchmarks/spell_check.py checkpoints/quick/finetuned/best --fit    # prints weights, from the other half
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import spellchecker
from scipy.optimize import minimize
from scipy.special import log_softmax
from symspellpy import SymSpell, Verbosity

from letterwise.api.services.spell_checking import EXAMPLES, MAX_CANDIDATES, SpellCheck, SpellChecker, Weights
from letterwise.config import ExperimentConfig
from letterwise.engines.engine import Engine
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.evaluation.calibration import expected_calibration_error
from letterwise.evaluation.statistics import mcnemar_p_value, wilson_interval
from letterwise.evaluation_steps import load_for_inference
from letterwise.files import write_json
from letterwise.models import load_tokenizer, resolve_base
from letterwise.reporting.console import Terminal
from letterwise.run_environment import describe_environment
from letterwise.words.dictionary import dictionary_words

RESULTS = Path(__file__).parent / "results" / "spell_check.json"
PIECE = 50
"""Words checked between two steps of the progress bar."""
OURS = "letterwise, with the model"
OURS_WITHOUT = "letterwise, without a model"

Check = Callable[[Sequence[str]], list[SpellCheck]]


@dataclass(frozen=True, slots=True)
class Words:
    """One half of the words."""

    misspelled: list[tuple[str, str]]
    """Each with its correction."""
    corrections: list[str]
    """Correct words, from the other column of the same list."""
    dictionary: list[str]
    """Correct words of a dictionary."""

    def sample(self, misspelled: int, correct: int) -> Words:
        return Words(self.misspelled[:misspelled], self.corrections[:correct], self.dictionary[:correct])


def load_words(seed: int) -> dict[str, Words]:
    """Both halves, in random order; no correction and none of the prompt's examples is in both or either."""
    text = (files("codespell_lib") / "data" / "dictionary.txt").read_text(encoding="utf-8")
    pairs = [(wrong.strip(), right.strip()) for wrong, _, right in (line.partition("->") for line in text.splitlines())]
    wrong = {pair[0] for pair in pairs}
    shown = {right for _, right in EXAMPLES}
    pairs = [pair for pair in pairs if is_plain(pair[0]) and is_plain(pair[1]) and pair[1] not in shown]
    rng = random.Random(seed)
    rng.shuffle(pairs)
    dictionary = [word for word in dictionary_words(2, 32, 2.0) if word not in wrong]
    rng.shuffle(dictionary)
    corrections = sorted({right for _, right in pairs})
    rng.shuffle(corrections)
    halves = {}
    for place, name in enumerate(("development", "test")):
        mine = set(corrections[place::2])
        halves[name] = Words(
            misspelled=[pair for pair in pairs if pair[1] in mine],
            corrections=[word for word in corrections[place::2] if word not in wrong],
            dictionary=dictionary[place::2],
        )
    return halves


def is_plain(word: str) -> bool:
    return word.isascii() and word.isalpha() and word.islower()


def symspell() -> Check:
    """The library as its documentation uses it: its own dictionary, the most frequent of the nearest words."""
    index = SymSpell()
    index.load_dictionary(files("symspellpy") / "frequency_dictionary_en_82_765.txt", 0, 1, encoding="utf-8-sig")

    def check(words: Sequence[str]) -> list[SpellCheck]:
        found = [next(iter(index.lookup(word, Verbosity.TOP, max_edit_distance=2)), None) for word in words]
        return [
            SpellCheck(word, best is not None and best.distance == 0, best.term if best else None, float("nan"))
            for word, best in zip(words, found, strict=True)
        ]

    return check


def pyspellchecker() -> Check:
    """The library as its documentation uses it."""
    checker = spellchecker.SpellChecker()

    def check(words: Sequence[str]) -> list[SpellCheck]:
        return [
            SpellCheck(word, True, None, float("nan"))
            if word in checker
            else SpellCheck(word, False, checker.correction(word), float("nan"))
            for word in words
        ]

    return check


def without_model(checker: SpellChecker) -> Check:
    return lambda words: [checker.decide(word, checker.prepare(word)) for word in words]


def measure(name: str, check: Check, words: Words, terminal: Terminal) -> tuple[dict[str, Any], list[bool]]:
    """Figures of one checker, and which misspellings it corrected."""
    groups = {
        "misspelled": [wrong for wrong, _ in words.misspelled],
        "corrections": words.corrections,
        "dictionary": words.dictionary,
    }
    found: dict[str, list[SpellCheck]] = {group: [] for group in groups}
    wall = cpu = 0.0
    with terminal.track(name, sum(map(len, groups.values()))) as advance:
        for group, asked in groups.items():
            for start in range(0, len(asked), PIECE):
                piece = asked[start : start + PIECE]
                wall_before, cpu_before = time.perf_counter(), time.process_time()
                found[group] += check(piece)
                if group == "misspelled":
                    wall += time.perf_counter() - wall_before
                    cpu += time.process_time() - cpu_before
                advance(len(piece), group)
    right = [
        verdict.suggestion == correction and not verdict.is_correct
        for verdict, (_, correction) in zip(found["misspelled"], words.misspelled, strict=True)
    ]
    suggested = [
        hit
        for hit, verdict in zip(right, found["misspelled"], strict=True)
        if verdict.suggestion and not verdict.is_correct
    ]
    figures = {
        "top_1_accuracy": proportion(right),
        "detection_rate": proportion([not verdict.is_correct for verdict in found["misspelled"]]),
        "suggestion_precision": proportion(suggested),
        "false_alarm_rate": {
            group: proportion([not verdict.is_correct for verdict in found[group]])
            for group in ("corrections", "dictionary")
        },
        "milliseconds_per_misspelling": {
            "wall": 1000 * wall / len(right),
            "processor": 1000 * cpu / len(right),
            "n": len(right),
        },
    }
    verdicts = found["misspelled"] + found["corrections"]
    if not np.isnan(verdicts[0].confidence):
        # A verdict without a suggestion says that the word is misspelled, and no more.
        true = [
            hit or (not verdict.is_correct and verdict.suggestion is None)
            for hit, verdict in zip(right, found["misspelled"], strict=True)
        ] + [verdict.is_correct for verdict in found["corrections"]]
        figures["expected_calibration_error"] = {
            "all_verdicts": calibration(verdicts, true, lambda verdict: True),
            "suggestions": calibration(verdicts, true, lambda verdict: verdict.suggestion is not None),
        }
    return figures, right


def proportion(hits: Sequence[bool]) -> dict[str, Any]:
    return {"value": sum(hits) / len(hits), "interval": wilson_interval(sum(hits), len(hits)), "n": len(hits)}


def calibration(
    verdicts: Sequence[SpellCheck], true: Sequence[bool], wanted: Callable[[SpellCheck], bool]
) -> dict[str, Any]:
    kept = [(verdict.confidence, hit) for verdict, hit in zip(verdicts, true, strict=True) if wanted(verdict)]
    confidences, hits = zip(*kept, strict=True)
    return {"value": expected_calibration_error(confidences, hits), "n": len(kept)}


def fit(words: Words, engine: Engine | None, asked: int, terminal: Terminal) -> None:
    """Print all constants of the checker, fitted by maximum likelihood on equally many misspelled and correct words."""
    checker = SpellChecker(ask_model=True)
    size = min(len(words.misspelled), len(words.corrections))
    unknown = [
        (word, correction, checker.prepare(word))
        for word, correction in [*words.misspelled[:size], *((word, "") for word in words.corrections[:size])]
        if not checker.knows(word)
    ]
    random.Random(0).shuffle(unknown)
    without = fit_softmax(
        [
            (checker.features(word, candidates), place_of(correction, candidates))
            for word, correction, candidates in unknown
        ]
    )
    print(f"WITHOUT_MODEL, from {len(unknown)} words: {without}")
    checker = SpellChecker(ask_model=True, without_model=without)
    alone = [
        correction != ""
        for word, correction, candidates in unknown
        if checker.decide(word, candidates).suggestion is None
    ]
    print(f"NO_SUGGESTION_CONFIDENCE, from {len(alone)} words: {sum(alone) / len(alone):.3f}")
    print(f"KNOWN_CONFIDENCE: {fit_known(checker, words)}")
    if engine is None:
        return

    unsure = [item for item in unknown if checker.needs_model(item[2])][:asked]
    alike, ranked = [], []
    with terminal.track("model", len(unsure)) as advance:
        for start in range(0, len(unsure), PIECE):
            piece = unsure[start : start + PIECE]
            prompts = [checker.prompt(word, candidates) for word, _, candidates in piece]
            scores = engine.score([prompt for prompt, _ in prompts], [answers for _, answers in prompts])
            for (word, correction, candidates), probabilities in zip(piece, scores, strict=True):
                place = place_of(correction, candidates)
                alike.append((checker.features(word, candidates), place))
                ranked.append((checker.features(word, candidates, probabilities), place))
            advance(len(piece), "")
    print(f"WITH_MODEL, from {len(unsure)} words: {fit_softmax(ranked)}")
    for name, problems in (("without", alike), ("with", ranked)):
        hits, loss = cross_validate(problems)
        print(f"{name} the model, 5-fold: top 1 {proportion(hits)}, log loss {loss:.4f}")


def cross_validate(problems: Sequence[tuple[Any, int]], folds: int = 5) -> tuple[list[bool], float]:
    """Whether the best candidate is right, and the mean log loss, each for words that the weights have not seen."""
    hits, losses = [], []
    for fold in range(folds):
        seen = [problem for place, problem in enumerate(problems) if place % folds != fold]
        weights = fit_softmax(seen)
        for features, right in problems[fold::folds]:
            logs = log_softmax(features @ weights)
            hits.append(bool(logs[:-1].argmax() == right))
            losses.append(-logs[right])
    return hits, float(np.mean(losses))


def place_of(correction: str, candidates: list[str]) -> int:
    """The outcome that is right: a candidate, or last that none is."""
    return candidates.index(correction) if correction in candidates else len(candidates)


def fit_softmax(problems: Sequence[tuple[Any, int]]) -> Weights:
    """Maximum likelihood, with a slight pull to zero that leaves unused weights there."""

    rows = np.zeros((len(problems), MAX_CANDIDATES + 1, len(Weights._fields)))
    absent = np.zeros(rows.shape[:2])
    right = np.array([place for _, place in problems])
    for row, gone, (features, _) in zip(rows, absent, problems, strict=True):
        row[: len(features)] = features
        gone[len(features) :] = -np.inf
    each = np.arange(len(problems))

    def loss(weights: Any) -> tuple[float, Any]:
        logs = log_softmax(rows @ weights + absent, axis=1)
        slope = rows[each, right] - np.einsum("ij,ijk->ik", np.exp(logs), rows)
        return 1e-4 * weights @ weights - logs[each, right].mean(), 2e-4 * weights - slope.mean(axis=0)

    return Weights(*minimize(loss, np.zeros(len(Weights._fields)), jac=True, method="BFGS").x.round(2).tolist())


def fit_known(checker: SpellChecker, words: Words) -> tuple[float, float]:
    """Logistic regression of "correct" on the Zipf frequency of known words, both kinds with equal weight in all."""
    kinds = [[wrong for wrong, _ in words.misspelled], words.corrections]
    rows = [
        (checker.zipf(word), label, 1 / len(kind))
        for label, kind in enumerate(kinds)
        for word in kind
        if checker.knows(word)
    ]
    zipf, labels, weights = (np.array(column) for column in zip(*rows, strict=True))

    def loss(line: Any) -> float:
        signed = np.where(labels == 1, 1, -1) * (line[0] + line[1] * zipf)
        return float(weights @ np.logaddexp(0, -signed))

    return tuple(minimize(loss, np.zeros(2)).x.round(2).tolist())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?", help="folder of the tuned adapter; leave out what needs it")
    parser.add_argument("--base-model", default="embedded", help="what the adapter was trained on")
    parser.add_argument("--misspelled", type=int, default=2000, help="misspellings to check")
    parser.add_argument("--correct", type=int, default=1000, help="correct words of each kind to check")
    parser.add_argument("--slow", type=int, default=400, help="misspellings for pyspellchecker, which takes long")
    parser.add_argument("--fit", action="store_true", help="fit the weights on the development half; measure nothing")
    parser.add_argument("--asked", type=int, default=1500, help="words on which --fit asks the model")
    parser.add_argument("--half", choices=("development", "test"), default="test", help="what to measure on")
    parser.add_argument("--seed", type=int, default=0, help="of the split")
    options = parser.parse_args()
    terminal = Terminal()

    halves = load_words(options.seed)
    base = resolve_base(options.base_model)
    engine = None
    if options.model:
        engine = TransformersEngine(load_for_inference(base, options.model), load_tokenizer(base))
    if options.fit:
        return fit(halves["development"], engine, options.asked, terminal)

    words = halves[options.half].sample(options.misspelled, options.correct)
    checker = SpellChecker(ask_model=True)
    variants: dict[str, tuple[Check, Words]] = {
        "symspellpy": (symspell(), words),
        "pyspellchecker": (pyspellchecker(), words.sample(options.slow, options.correct)),
        OURS_WITHOUT: (without_model(checker), words),
    }
    if engine is not None:
        variants[OURS] = (partial(checker.check, engine), words)
    figures, right = {}, {}
    for name, (check, mine) in variants.items():
        figures[name], right[name] = measure(name, check, mine, terminal)
        terminal.say(f"{name}: top 1 {figures[name]['top_1_accuracy']['value']:.1%}")
    config = ExperimentConfig(run_name="benchmark", base_model=options.base_model)
    environment = describe_environment(config, base).model_dump()
    for package in ("symspellpy", "pyspellchecker", "codespell", "english-words", "wordfreq", "rapidfuzz"):
        environment["packages"][package] = version(package)
    write_json(
        RESULTS,
        {
            "environment": environment,
            "half": options.half,
            "seed": options.seed,
            "variants": figures,
            "p_value_of_top_1_against_symspellpy": {
                name: mcnemar_p_value(hits, right["symspellpy"]) for name, hits in right.items() if "letterwise" in name
            },
        },
    )
    terminal.say(f"Written to {RESULTS}")


if __name__ == "__main__":
    main()
