"""Which spelling exercises the training texts were made of, in words.

Knows the audit of the data; knows nothing about the exercises themselves.
"""

from __future__ import annotations

from letterwise.reporting.summary import share_text
from letterwise.results import DataAudit

PLAIN = "spelling"


def mix_sentences(audit: DataAudit) -> str:
    """How many of the texts are plain spelling and how many each exercise; "" where all are plain spelling."""
    shares = {name: share for name, share in audit.exercise_shares.items() if name != PLAIN}
    if not shares:
        return ""
    ordered = sorted(shares, key=lambda name: (-shares[name], name))
    listed = ", ".join(f"{name} {share_text(shares[name])}" for name in ordered)
    debatable = [name for name in ordered if audit.exercise_purity.get(name) != "plain"]
    sentences = (
        f"Of the texts, {share_text(audit.exercise_shares.get(PLAIN, 0.0))} are plain spelling and the others spelling "
        f"exercises: {listed}. What an exercise asks for are letters of the word or the word itself."
    )
    if debatable:
        sentences += (
            f" Debatable, because how often or where a letter occurs can be read off what is written: "
            f"{', '.join(debatable)}."
        )
    return sentences
