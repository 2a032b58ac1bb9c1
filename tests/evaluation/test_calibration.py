from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from letterwise.evaluation.calibration import (
    calibrated_confidence,
    calibration_errors,
    expected_calibration_error,
    fit_calibration,
    fit_curve,
)

RNG = np.random.default_rng(0)


def answers(n: int, accuracy: float) -> tuple[np.ndarray, np.ndarray]:
    """Answers that are right with `accuracy` times their confidence: an overconfident model."""
    confidence = RNG.random(n)
    return confidence, RNG.random(n) < accuracy * confidence


def test_an_overconfident_model_is_brought_down() -> None:
    curve = fit_curve(*answers(4000, accuracy=0.5))
    assert curve.n == 4000
    for confidence in (0.2, 0.5, 0.9):
        assert calibrated_confidence(curve, confidence) == pytest.approx(0.5 * confidence, abs=0.06)


def test_calibration_lowers_the_error_on_other_answers() -> None:
    curve = fit_curve(*answers(2000, accuracy=0.5))
    confidence, correct = answers(2000, accuracy=0.5)
    before = expected_calibration_error(confidence, correct)
    after = expected_calibration_error([calibrated_confidence(curve, value) for value in confidence], correct)
    assert before == pytest.approx(0.25, abs=0.03)
    assert after < 0.05


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=40))
def test_a_curve_is_a_monotone_map_to_probabilities(pairs: list[tuple[float, bool]]) -> None:
    confidences, correct = zip(*pairs, strict=True)
    curve = fit_curve(confidences, correct)
    assert sorted(curve.confidences) == curve.confidences
    mapped = [calibrated_confidence(curve, value) for value in np.linspace(0, 1, 21)]
    assert sorted(mapped) == mapped
    assert 0 <= mapped[0] <= mapped[-1] <= 1
    # Nothing is certain after a few answers, unless all were alike.
    if 0 < sum(correct) < len(correct):
        assert mapped[0] > 0
        assert mapped[-1] < 1


def test_the_order_of_equal_confidences_does_not_matter() -> None:
    assert fit_curve([0.5, 0.5, 0.9], [True, False, True]) == fit_curve([0.5, 0.5, 0.9], [False, True, True])


def test_expected_calibration_error_of_few_answers_is_their_mean_distance() -> None:
    assert expected_calibration_error([0.9, 0.6], [True, False]) == pytest.approx((0.1 + 0.6) / 2)


def tables(spelled: list[bool], answered: dict[str, list[bool]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    spelling = pd.DataFrame({"subset": "held_out", "confidence": 0.5, "correct": spelled})
    questions = [
        pd.DataFrame({"question_type": kind, "mode": mode, "confidence": 0.5, "correct": correct})
        for kind in ("letter_count", "letter_position")
        for mode, correct in answered.items()
    ]
    return spelling, pd.concat(questions, ignore_index=True)


def test_the_default_mode_is_the_most_accurate_one() -> None:
    predictions = tables(
        [True, False], {"direct": [True, False], "spell_first": [False, False], "computed": [True, True]}
    )
    calibration = fit_calibration(*predictions, adapter="abc")
    assert calibration.default_modes == {"letter_count": "computed", "letter_position": "computed"}
    assert calibration.accuracy["letter_count.direct"] == 0.5
    assert set(calibration.curves) == {"spelling"} | {
        f"{kind}.{mode}"
        for kind in ("letter_count", "letter_position")
        for mode in ("direct", "spell_first", "computed")
    }


def test_errors_are_given_for_what_was_evaluated() -> None:
    calibration = fit_calibration(*tables([True, False], {"direct": [True, True]}), adapter="abc")
    errors = calibration_errors(calibration, *tables([True] * 4, {"direct": [True] * 4, "computed": [True] * 4}))
    assert set(errors) == {"spelling", "letter_count.direct", "letter_position.direct"}
    assert errors["spelling"].uncalibrated == pytest.approx(0.5)
    assert errors["letter_count.direct"].calibrated == pytest.approx(0)
    assert errors["letter_count.direct"].n == 4
