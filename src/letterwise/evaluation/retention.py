"""What an adapter left of its base model's predictions on plain text: perplexity, divergence and unchanged choices.

Both read the same text, and each predicts every token from the text before it; neither goes on from what it wrote
itself. Knows token ids; knows nothing about where the text or the adapter comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from peft import PeftModel
from torch import Tensor

from letterwise.analysis_results import PlainText, Retained, Retention
from letterwise.evaluation.plain_text import Passages
from letterwise.evaluation.statistics import Bootstrap, mean_interval
from letterwise.results import Estimate, ModelRole, TrainedRole

BATCH_PASSAGES = 8
"""A large vocabulary's logits of so many passages are some hundred megabytes."""
_MEANS = ["base_loss", "loss", "divergence", "unchanged"]


@torch.inference_mode()
def compare_with_base(
    adapted: PeftModel, passages: Sequence[Sequence[int]], on_passages: Callable[[int], None] = lambda finished: None
) -> pd.DataFrame:
    """Read passages with an adapter and without it.

    Args:
        adapted: a base model with one adapter, ready for inference.
        passages: token ids, shape (passages, tokens), two or more tokens each.
        on_passages: called with the number of passages just read.

    Returns:
        One row per passage, means over its predicted tokens: `base_loss` and `loss` (negative log likelihood in nats),
        `divergence` (Kullback-Leibler, from the base's next-token distribution to the adapted model's, in nats) and
        `unchanged` (share of tokens where both have the same most probable token).
    """
    device = next(adapted.parameters()).device
    rows: list[list[float]] = []
    for start in range(0, len(passages), BATCH_PASSAGES):
        ids = torch.tensor(passages[start : start + BATCH_PASSAGES], device=device)
        logits = adapted(input_ids=ids, use_cache=False).logits[:, :-1]
        with adapted.disable_adapter():
            base_logits = adapted(input_ids=ids, use_cache=False).logits[:, :-1]
        # One passage at a time, because what follows is in float32.
        rows += [_means(*each) for each in zip(base_logits, logits, ids[:, 1:], strict=True)]
        on_passages(len(ids))
    return pd.DataFrame(rows, columns=_MEANS)


def _means(base_logits: Tensor, logits: Tensor, targets: Tensor) -> list[float]:
    base, tuned = (torch.log_softmax(each.float(), dim=-1) for each in (base_logits, logits))
    losses = [-each.gather(1, targets[:, None]).mean() for each in (base, tuned)]
    divergence = (base.exp() * (base - tuned)).sum(dim=-1).mean()
    unchanged = (base.argmax(dim=-1) == tuned.argmax(dim=-1)).float().mean()
    # Rounding can take the divergence of equal distributions below zero.
    return [float(each) for each in (*losses, divergence.clamp(min=0), unchanged)]


def summarise_retention(
    compared: Mapping[TrainedRole, pd.DataFrame],
    text: Passages,
    revisions: Mapping[ModelRole, str],
    dtype: torch.dtype,
    bootstrap: Bootstrap,
) -> Retention:
    """Everything that ``retention.json`` holds.

    Args:
        compared: what `compare_with_base` found of each adapter on these passages; one or more.
        text: the passages.
        revisions: of base and adapters, as the evaluation names them.
        dtype: number type of the models.
        bootstrap: how to resample the passages, which have equal weight because they are equally long.
    """
    tokens = sum(len(passage) - 1 for passage in text.ids)
    first = next(iter(compared.values()))

    def mean(values: pd.Series[float], exponential: bool = False) -> Estimate:
        interval = mean_interval(values, bootstrap)
        shown = np.exp if exponential else np.asarray
        return Estimate(
            value=float(shown(values.mean())),
            interval=interval and (float(shown(interval[0])), float(shown(interval[1]))),
            n=tokens,
        )

    perplexity: dict[ModelRole, Estimate] = {"base": mean(first["base_loss"], exponential=True)}
    perplexity |= {role: mean(found["loss"], exponential=True) for role, found in compared.items()}
    return Retention(
        text=PlainText(source=text.source, sha256=text.sha256, passages=len(text.ids), tokens=tokens),
        revisions=dict(revisions),
        dtype=str(dtype).removeprefix("torch."),
        perplexity=perplexity,
        against_base={
            role: Retained(
                perplexity_ratio=mean(found["loss"] - found["base_loss"], exponential=True),
                unchanged_choices=mean(found["unchanged"]),
                kl_divergence=mean(found["divergence"]),
            )
            for role, found in compared.items()
        },
    )
