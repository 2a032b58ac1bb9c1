"""Probes find letters where there are some and nothing where there are none, on tokens of unseen word families."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from sklearn.linear_model import LogisticRegression
from transformers import PreTrainedTokenizerBase

from letterwise.config import LoraSection
from letterwise.errors import LetterwiseError
from letterwise.evaluation.probe_fit import fit_linear, probe, standardized
from letterwise.evaluation.probe_items import FEWEST, FIT, PARTS, TEST, ProbeItems, draw_items
from letterwise.evaluation.probe_summary import Answers
from letterwise.evaluation.representations import prefix_token, read_representations, write_representations
from letterwise.evaluation.statistics import Bootstrap, wilson_interval
from letterwise.models import BaseModel, load_model
from letterwise.words.vocabulary import LetterToken, extract_letter_tokens

CPU = torch.device("cpu")
BOOTSTRAP = Bootstrap(samples=400, seed=0)
MakeTokens = Callable[[int], list[LetterToken]]


def tokens_of(words: list[str]) -> list[LetterToken]:
    return [LetterToken(word, number, len(word.strip())) for number, word in enumerate(words)]


@pytest.fixture(scope="module")
def items() -> ProbeItems:
    """Two thousand strings of letters, each also as it stands at the beginning of a sentence."""
    rng = np.random.default_rng(0)
    words = {"".join(rng.choice(list("abcdefgh"), size=rng.integers(3, 7))) for _ in range(2000)}
    return draw_items(tokens_of([form for word in sorted(words) for form in (word, f" {word.capitalize()}")]), seed=0)


def test_no_family_of_words_is_in_two_parts() -> None:
    words = [
        f"{stem}{ending}" for stem in ("walk", "paint", "jump", "play", "call") for ending in ("", "s", "ed", "ing")
    ]
    forms = [form for word in words * 20 for form in (word, f" {word}", word.upper())]
    items = draw_items(tokens_of([*forms, *(f"{a}{b}{c}" for a in "aeio" for b in "rstlmn" for c in "aeiouy")]), seed=1)
    of_parts = [set(items.families[items.parts == part]) for part in range(len(PARTS))]
    assert sum(map(len, of_parts)) == len(set.union(*of_parts))
    assert all(of_parts)


def test_as_many_tokens_with_a_letter_as_without_it_are_asked_about_in_each_part(items: ProbeItems) -> None:
    assert items.letters == "abcdefgh"
    for part in range(len(PARTS)):
        asked, contains = items.asked[items.parts == part], items.contains[items.parts == part]
        assert (2 * (asked & contains).sum(axis=0) == asked.sum(axis=0)).all()
        assert (asked.sum(axis=0) >= 2 * FEWEST).all()


def test_rare_letters_have_no_probe_and_too_few_tokens_are_refused(items: ProbeItems) -> None:
    assert "z" not in items.letters
    with pytest.raises(LetterwiseError, match="3 letter tokens are too few to probe"):
        draw_items(tokens_of(["cat", "dog", "mouse"]), seed=0)


def test_letters_are_found_where_they_are_and_nowhere_else(items: ProbeItems) -> None:
    rng = np.random.default_rng(0)

    def one_hot(letters: np.ndarray) -> np.ndarray:
        return np.eye(len(ascii_lowercase), dtype=np.float32)[letters]

    noise = rng.standard_normal((len(items.parts), 20), dtype=np.float32)
    mixed = rng.standard_normal((8 + 52, 60), dtype=np.float32)  # no single feature is a letter
    told = np.hstack([items.contains, one_hot(items.first), one_hot(items.last)]).astype(np.float32) @ mixed
    rows = [noise, 100 * np.hstack([told, noise]) + 7]  # whatever their scale
    right = np.stack([probe(features, items, CPU) for features in rows])
    answers = Answers(items.test_items(), {"base": right, "majority": items.majority_is_right()[None]}, BOOTSTRAP)

    nothing, everything = answers.places("base", ["embedding", "layer_1"])
    for question, accuracy in nothing.accuracy.items():
        chance = answers.accuracy("majority")[question].value
        assert accuracy.interval[0] - 0.03 < chance < accuracy.interval[1] + 0.03
    assert answers.accuracy("majority")["contains_letter"].value == pytest.approx(0.5)
    assert all(accuracy.value > 0.99 for accuracy in everything.accuracy.values())
    assert everything.accuracy["contains_letter"].n == items.asked[items.parts == TEST].sum()
    assert everything.accuracy["first_letter"].n == (items.parts == TEST).sum()
    assert everything.letters.keys() == set("abcdefgh")


def test_length_alone_tells_something_about_letters(items: ProbeItems) -> None:
    """Longer tokens contain more letters: an accuracy above one half need not be knowledge of spelling."""
    answers = Answers(items.test_items(), {"appearance": probe(items.appearance, items, CPU)[None]}, BOOTSTRAP)
    assert answers.accuracy("appearance")["contains_letter"].interval[0] > 0.52


def test_the_weights_are_those_of_scikit_learn() -> None:
    """On features of very unequal variance that depend on one another, for a common and for a rare answer."""
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((300, 12)) @ (np.diag(np.logspace(0, -2, 12)) @ rng.standard_normal((12, 12)))
    features = standardized(torch.tensor(mixed, dtype=torch.float32), torch.ones(300, dtype=torch.bool))
    noisy = features @ torch.tensor(rng.standard_normal((12, 2)), dtype=torch.float32) + torch.randn(300, 2)
    truth = (noisy > torch.tensor([0.0, 4.0])).float()

    def loss(logits: torch.Tensor) -> torch.Tensor:
        expanded = truth[:, None].expand_as(logits)
        return functional.binary_cross_entropy_with_logits(logits, expanded, reduction="none").mean(dim=0).sum()

    strengths = (1e-3, 1e-1)
    weights, bias = fit_linear(features, loss, outputs=2, strengths=strengths)
    for column, strength in enumerate(strengths):
        for output in range(2):
            peer = LogisticRegression(C=1 / (strength * 300), tol=1e-8, max_iter=10_000)
            peer.fit(features.double().numpy(), truth[:, output].numpy())
            np.testing.assert_allclose(weights[:, column, output], peer.coef_[0], atol=0.02, rtol=0.02)
            np.testing.assert_allclose(bias[column, output], peer.intercept_[0], atol=0.02, rtol=0.02)


def test_intervals_keep_families_together(items: ProbeItems) -> None:
    """Both forms of a word right or wrong together say as much as one form: the interval is wider than Wilson's."""
    asked = items.test_items()
    by_family = np.random.default_rng(0).random(items.families.max() + 1) < 0.7
    right = by_family[asked["family"]]
    (place,) = Answers(asked, {"base": right[None]}, BOOTSTRAP).places("base", ["embedding"])
    first = place.accuracy["first_letter"]
    low, high = wilson_interval(round(first.value * first.n), first.n)
    assert (first.interval[1] - first.interval[0]) / (high - low) == pytest.approx(np.sqrt(2), rel=0.15)


def test_models_are_compared_on_the_same_tokens(items: ProbeItems) -> None:
    asked = items.test_items()
    base = np.random.default_rng(0).random((2, len(asked))) < 0.6
    tuned = base.copy()
    tuned[1, ::7] = True
    differences = Answers(asked, {"base": base, "finetuned": tuned}, BOOTSTRAP).differences(["embedding", "layer_1"])
    assert differences.keys() == {"base_to_finetuned"}
    same, better = differences["base_to_finetuned"][0], differences["base_to_finetuned"][3]
    assert (same.place, same.difference, same.interval, same.is_significant) == ("embedding", 0, (0, 0), False)
    assert (better.place, better.question) == ("layer_1", "contains_letter")
    assert better.interval[0] < better.difference < better.interval[1]
    assert better.is_significant
    assert better.difference == pytest.approx(0.4 / 7, abs=0.02)


def test_representations_are_those_of_the_token_itself(
    tiny_base: BaseModel, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("letterwise.evaluation.representations.TOKENS_AT_A_TIME", 7)
    model = load_model(tiny_base, CPU, torch.float32)
    ids = [token.token_id for token in extract_letter_tokens(tiny_tokenizer)][:20]
    prefix = prefix_token(tiny_tokenizer)
    assert tiny_tokenizer.decode([prefix]) == "<|endoftext|>"
    seen: list[int] = []
    paths = write_representations(model, prefix, ids, tmp_path, seen.append)

    layers = range(1, model.config.num_hidden_layers + 1)
    assert list(paths) == ["embedding", *(f"layer_{layer}" for layer in layers)]
    assert seen == [7, 7, 6]
    read = {place: read_representations(path, len(ids)) for place, path in paths.items()}
    with torch.inference_mode():
        np.testing.assert_array_equal(read["embedding"], model.get_input_embeddings()(torch.tensor(ids)))
        output = model(torch.tensor([[prefix, ids[12]]]), output_hidden_states=True)
    for layer in layers:
        np.testing.assert_allclose(read[f"layer_{layer}"][12], output.hidden_states[layer][0, 1], atol=1e-5)
    logits = model.get_output_embeddings()(torch.from_numpy(read[f"layer_{layers[-1]}"][12]))
    if bound := getattr(model.config, "final_logit_softcapping", None):
        logits = bound * torch.tanh(logits / bound)
    np.testing.assert_allclose(logits.detach(), output.logits[0, 1], atol=1e-4)


def test_an_adapter_is_probed_with_its_embeddings(
    tiny_base: BaseModel, tiny_tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    from letterwise.adapters import add_adapter

    model = load_model(tiny_base, CPU, torch.float32)
    name = "wte" if "gpt2" in tiny_base.id else "embed_tokens"
    adapted = add_adapter(model, LoraSection(rank=2, alpha=4, modules_to_save=[name]), tiny_base).eval()
    before = write_representations(adapted, 0, [300, 301], tmp_path / "before", lambda _: None)
    with torch.no_grad():
        for parameter in (parameter for parameter in adapted.parameters() if parameter.requires_grad):
            parameter.add_(0.1)
    after = write_representations(adapted, 0, [300, 301], tmp_path / "after", lambda _: None)
    embeddings = [read_representations(paths["embedding"], 2) for paths in (before, after)]
    # Gemma multiplies its embeddings by a constant.
    scale = adapted.get_base_model().config.hidden_size ** 0.5 if "gemma" in tiny_base.id else 1.0
    np.testing.assert_allclose(embeddings[1] - embeddings[0], 0.1 * scale, atol=1e-5)
    assert not np.allclose(*(read_representations(paths["layer_1"], 2) for paths in (before, after)))


def test_the_same_seed_draws_the_same_items() -> None:
    words = [f"{a}{b}{c}" for a in "aeiob" for b in "rstlmn" for c in "aeiouy"]
    one, same, other = (draw_items(tokens_of(words), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.asked, same.asked)
    assert (one.parts != other.parts).any()
    assert 0.55 < (one.parts == FIT).mean() < 0.73
