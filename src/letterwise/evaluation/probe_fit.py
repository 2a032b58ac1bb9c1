"""Linear probes: logistic regressions with an L2 penalty, all letters and all strengths of the penalty at once.

One at a time, as scikit-learn fits them, the ten thousand probes of a run would take hours. The weights are the same,
and a test holds one against the other. Knows representations and questions; knows nothing about models.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
import torch
import torch.nn.functional as functional
from numpy.typing import NDArray
from torch import Tensor

from letterwise.evaluation.probe_items import FIT, TEST, VALIDATION, Bools, ProbeItems

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""λ in: mean loss + λ/2 · ‖w‖², of standardized features. Chosen for each letter, and for first and last letter, by the
loss on tokens for validation."""
_ITERATIONS = 100
_GRADIENT = 1e-5
_STEP = 1e-9


@dataclass(frozen=True)
class _Questions:
    """The questions about some tokens, as tensors; logits have the shape (tokens, strengths, letters + 26 + 26)."""

    contains: Tensor
    weights: Tensor
    """Shape (tokens, letters): 1 ÷ the number of tokens asked about the letter, 0 for the others."""
    places: tuple[Tensor, Tensor]
    """First and last letter, each of shape (tokens,)."""

    @classmethod
    def of(cls, items: ProbeItems, part: int, device: torch.device) -> _Questions:
        rows = items.parts == part
        asked = torch.from_numpy(items.asked[rows]).float().to(device)
        return cls(
            torch.from_numpy(items.contains[rows]).float().to(device),
            asked / asked.sum(dim=0),
            (torch.from_numpy(items.first[rows]).to(device), torch.from_numpy(items.last[rows]).to(device)),
        )

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the letters that a token contains, of its first and of its last letter."""
        letters, alphabet = self.contains.shape[1], len(ascii_lowercase)
        return logits[..., :letters], logits[..., letters:-alphabet], logits[..., -alphabet:]

    def losses(self, logits: Tensor) -> Tensor:
        """Mean loss of each strength and probe, shape (strengths, letters + 2)."""
        contains, *places = self.split(logits)
        truth = self.contains[:, None].expand_as(contains)
        binary = functional.binary_cross_entropy_with_logits(contains, truth, reduction="none")
        return torch.cat(
            [
                (binary * self.weights[:, None]).sum(dim=0),
                *(
                    functional.cross_entropy(
                        place.movedim(2, 1), letters[:, None].expand(place.shape[:2]), reduction="none"
                    ).mean(dim=0)[:, None]
                    for place, letters in zip(places, self.places, strict=True)
                ),
            ],
            dim=1,
        )


def probe(features: NDArray[np.float32], items: ProbeItems, device: torch.device) -> Bools:
    """Fit every probe on one kind of representation, and ask it about the test tokens.

    Args:
        features: shape (tokens, width), in the order of the items' tokens.
        items: what is asked.
        device: where to compute.

    Returns:
        Whether the answer is right, for each row of `ProbeItems.test_items`.
    """
    rows = [torch.from_numpy(items.parts == part).to(device) for part in (FIT, VALIDATION, TEST)]
    inputs = standardized(torch.from_numpy(features).to(device), rows[FIT])
    known = _Questions.of(items, FIT, device)
    outputs = len(items.letters) + 2 * len(ascii_lowercase)
    weights, bias = fit_linear(inputs[rows[FIT]], lambda logits: known.losses(logits).sum(), outputs, STRENGTHS)

    def logits_of(part: int) -> Tensor:
        return torch.einsum("nd,dsk->nsk", inputs[rows[part]], weights) + bias

    best = _Questions.of(items, VALIDATION, device).losses(logits_of(VALIDATION)).argmin(dim=0)
    contains, *places = known.split(logits_of(TEST))
    letters = torch.arange(len(items.letters), device=device)
    present = (contains[:, best[:-2], letters] > 0).cpu().numpy()
    test = items.parts == TEST
    asked = items.asked[test]
    answers = [
        place[:, strength].argmax(dim=1).cpu().numpy() for place, strength in zip(places, best[-2:], strict=True)
    ]
    return np.concatenate(
        [
            (present == items.contains[test])[asked],
            *(answer == truth[test] for answer, truth in zip(answers, (items.first, items.last), strict=True)),
        ]
    )


def standardized(features: Tensor, rows: Tensor) -> Tensor:
    """Features with mean 0 and standard deviation 1 over the rows given; a constant feature becomes 0."""
    deviation, mean = torch.std_mean(features[rows], dim=0, correction=0)
    return (features - mean) / torch.where(deviation > 0, deviation, torch.ones_like(deviation))


def fit_linear(
    features: Tensor, loss: Callable[[Tensor], Tensor], outputs: int, strengths: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """The weights that minimise loss + λ/2 · ‖w‖² for each strength λ, by L-BFGS (Liu and Nocedal, 1989).

    The features are rotated onto their principal axes, and each axis is scaled by what it and the penalty contribute
    to the curvature of a logistic loss. The minimum is the same; it is reached in tens of steps instead of hundreds.

    Args:
        features: standardized, shape (rows, width).
        loss: takes logits of shape (rows, strengths, outputs) and returns the sum of all losses.
        outputs: how many logits each row gets.
        strengths: λ, each positive.

    Returns:
        Weights, shape (width, strengths, outputs), and bias, shape (strengths, outputs), which bears no penalty.
    """
    penalties = torch.tensor(strengths, device=features.device)
    covariance = (features.T @ features / len(features)).double().cpu()
    variances, axes = torch.linalg.eigh(covariance)
    variances, axes = variances.clamp(min=0).float().to(features.device), axes.float().to(features.device)
    rotated = features @ axes
    scale = (variances[:, None] / 4 + penalties).rsqrt()[:, :, None]
    weights = torch.zeros(features.shape[1], len(strengths), outputs, device=features.device, requires_grad=True)
    bias = torch.zeros(len(strengths), outputs, device=features.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights, bias],
        max_iter=_ITERATIONS,
        history_size=20,
        tolerance_grad=_GRADIENT,
        tolerance_change=_STEP,
        line_search_fn="strong_wolfe",
    )

    def objective() -> float:
        optimizer.zero_grad()
        scaled = weights * scale
        logits = (rotated @ scaled.flatten(1)).unflatten(1, scaled.shape[1:]) + bias
        total = loss(logits) + (penalties[:, None] / 2 * scaled.square()).sum()
        total.backward()
        return float(total.detach())

    optimizer.step(objective)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return torch.einsum("de,esk->dsk", axes, weights * scale), bias.detach()
