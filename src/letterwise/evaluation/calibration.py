"""From a model's confidence to the probability that its answer is right.

Isotonic regression (Zadrozny and Elkan, 2002), judged by the expected calibration error (Naeini et al., 2015). Knows
prediction tables; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from letterwise.evaluation.tables import held_out, in_mode, of_type
from letterwise.results import QUESTION_TYPES, Calibration, CalibrationCurve, CalibrationError

BINS = 15
"""Bins of the expected calibration error, each with the same number of answers."""


def fit_calibration(spelling: pd.DataFrame, position_count: pd.DataFrame, adapter: str) -> Calibration:
    """Fit one curve for spelling and one for each question type and answer mode, and choose the default modes.

    Args:
        spelling: one model's rows of `SPELLING_PREDICTION_COLUMNS`, on the validation split.
        position_count: its rows of `POSITION_COUNT_PREDICTION_COLUMNS`.
        adapter: checksum of the model's adapter.
    """
    curves, accuracy = {}, {}
    for name, rows in _groups(spelling, position_count):
        curves[name] = fit_curve(rows["confidence"], rows["correct"])
        accuracy[name] = float(rows["correct"].mean())
    default_modes = {}
    for question_type in QUESTION_TYPES:
        modes = [name.split(".")[1] for name in accuracy if name.startswith(f"{question_type}.")]
        if modes:
            default_modes[question_type] = max(modes, key=lambda mode: accuracy[f"{question_type}.{mode}"])
    return Calibration(adapter=adapter, curves=curves, accuracy=accuracy, default_modes=default_modes)


def calibration_errors(
    calibration: Calibration, spelling: pd.DataFrame, position_count: pd.DataFrame
) -> dict[str, CalibrationError]:
    """Expected calibration error of each curve on other answers of the same model, with and without the curve."""
    errors = {}
    for name, rows in _groups(spelling, position_count):
        if name in calibration.curves:
            calibrated = [calibrated_confidence(calibration.curves[name], value) for value in rows["confidence"]]
            errors[name] = CalibrationError(
                uncalibrated=expected_calibration_error(rows["confidence"], rows["correct"]),
                calibrated=expected_calibration_error(calibrated, rows["correct"]),
                n=len(rows),
            )
    return errors


def fit_curve(confidences: ArrayLike, correct: ArrayLike) -> CalibrationCurve:
    """Isotonic regression of right and wrong on confidence; one or more answers.

    Each level of the regression gives a point at its mean confidence. Its probability is drawn towards the overall
    accuracy by one more answer, so that a level with few answers is never certain.
    """
    x, y = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    x, y = x[order], y[order]
    # Equal confidences are one observation, else their order would matter.
    values, first, sizes = np.unique(x, return_index=True, return_counts=True)
    means = np.add.reduceat(y, first) / sizes
    blocks = isotonic_regression(means, weights=sizes).blocks
    points, probabilities = [], []
    for start, end in pairwise(blocks):
        weight = sizes[start:end].sum()
        points.append(float(np.average(values[start:end], weights=sizes[start:end])))
        right = float(np.dot(means[start:end], sizes[start:end]))
        probabilities.append((right + float(y.mean())) / (float(weight) + 1))
    # Shrinking levels of different size can turn two of them round by a little.
    return CalibrationCurve(confidences=points, probabilities=np.maximum.accumulate(probabilities).tolist(), n=len(x))


def calibrated_confidence(curve: CalibrationCurve, confidence: float) -> float:
    """The probability that an answer with this confidence is right."""
    return float(np.interp(confidence, curve.confidences, curve.probabilities))


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike) -> float:
    """Mean distance between confidence and accuracy over `BINS` bins of equally many answers, weighted by their size.

    Args:
        confidences: probabilities, shape (answers,), at least one.
        correct: whether each answer was right.
    """
    x, y = np.asarray(confidences, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, BINS) if len(part)]
    return float(sum(abs(x[part].mean() - y[part].mean()) * len(part) for part in parts) / len(x))


def _groups(spelling: pd.DataFrame, position_count: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if len(words := held_out(spelling)):
        yield "spelling", words
    for question_type in QUESTION_TYPES:
        for mode in position_count["mode"].unique():
            if len(rows := of_type(in_mode(position_count, mode), question_type)):
                yield f"{question_type}.{mode}", rows
