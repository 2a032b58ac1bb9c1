from __future__ import annotations

from functools import cache
from string import ascii_lowercase

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.models import BaseModel, load_model, load_tokenizer
from letterwise.tasks.questions import Prompt, count_question, direct_prompt, position_question, spell_first_prompt
from letterwise.tasks.spelling import spelling_prompt

WORDS = ["strawberry", "fig", "unbelievable", "plum", "watermelon", "kiwi", "pomegranate"]
NEW_TOKENS = 12
SPELLING_PROMPTS = [spelling_prompt(word) for word in WORDS]
MIXED_PROMPTS = [
    *SPELLING_PROMPTS,
    *(direct_prompt(count_question(word, "r")) for word in WORDS),
    *(spell_first_prompt(position_question(word, 2), word) for word in WORDS),
    Prompt("", "The capital of France is"),
    Prompt("A header of its own", "\n"),
]


@pytest.fixture(scope="module")
def tokenizer(tiny_base: BaseModel) -> PreTrainedTokenizerBase:
    return load_tokenizer(tiny_base)


@pytest.fixture(scope="module")
def model(tiny_base: BaseModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A tiny model that breaks the line now and then, as a trained one does."""
    model = load_model(tiny_base, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        model.get_input_embeddings().weight[tokenizer.encode("\n")] *= 2.0
    return model


@cache
@torch.inference_mode()
def greedy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], torch.Tensor]:
    """Greedy decoding without any cache: up to NEW_TOKENS tokens, and the probabilities behind each."""
    ids, probabilities = tokenizer.encode(text), []
    start = len(ids)
    for _ in range(NEW_TOKENS):
        logits = model(torch.tensor([ids]), use_cache=False).logits[0, -1]
        probabilities.append(torch.softmax(logits, dim=-1))
        ids.append(int(logits.argmax()))
    return ids[start:], torch.stack(probabilities)


def up_to_the_line_break(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(tokens) if "\n" in tokenizer.decode([token]) or token == 0]
    return tokens[: ends[0]] if ends else tokens


@pytest.mark.parametrize("batch_size", [1, 4, 64])
@pytest.mark.parametrize("prompts", [SPELLING_PROMPTS, MIXED_PROMPTS], ids=["one header", "many headers"])
def test_generation_is_greedy_decoding_up_to_the_line_break(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], batch_size: int
) -> None:
    engine = TransformersEngine(model, tokenizer, batch_size)
    stopped = 0
    for prompt, generation in zip(prompts, engine.generate(prompts, NEW_TOKENS), strict=True):
        tokens, _ = greedy(model, tokenizer, prompt.text)
        line = up_to_the_line_break(tokenizer, tokens)
        assert generation.token_texts == tuple(tokenizer.decode([token]) for token in line)
        assert generation.text == tokenizer.decode(line)
        assert generation.letter_probabilities == ()
        stopped += len(line) < NEW_TOKENS
    if prompts is MIXED_PROMPTS:
        assert 0 < stopped < len(prompts)


def test_letter_probabilities_are_those_of_the_softmax(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    engine = TransformersEngine(model, tokenizer, batch_size=4)
    letter_tokens = {
        letter: [id_ for id_ in range(len(tokenizer)) if tokenizer.decode([id_]).strip().lower() == letter]
        for letter in ascii_lowercase
    }
    assert {len(tokens) for tokens in letter_tokens.values()} <= {4, 6}  # "a", " a", "A", " A", and bytes
    generations = engine.generate(SPELLING_PROMPTS, NEW_TOKENS, letter_probabilities=True)
    for prompt, generation in zip(SPELLING_PROMPTS, generations, strict=True):
        tokens, probabilities = greedy(model, tokenizer, prompt.text)
        assert len(generation.letter_probabilities) == len(generation.token_texts)
        steps = zip(generation.letter_probabilities, probabilities, strict=False)
        for step, (by_letter, expected) in enumerate(steps):
            assert by_letter.keys() == {*ascii_lowercase, ""}
            assert sum(by_letter.values()) == pytest.approx(1, abs=1e-5)
            for letter, ids in letter_tokens.items():
                assert by_letter[letter] == pytest.approx(float(expected[ids].sum()), abs=1e-5)
            assert generation.token_texts[step] == tokenizer.decode([tokens[step]])


@cache
@torch.inference_mode()
def brute_force(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, answers: tuple[str, ...]
) -> list[float]:
    """Probability of each full text of prompt and answer, normalised over the answers."""
    logs = []
    alone = tokenizer.encode(prompt.text)
    for answer in answers:
        ids = tokenizer.encode(f"{prompt.text} {answer}")
        assert ids[: len(alone)] == alone
        log_probabilities = torch.log_softmax(model(torch.tensor([ids]), use_cache=False).logits[0], dim=-1)
        logs.append(sum(log_probabilities[place - 1, ids[place]] for place in range(len(alone), len(ids))))
    return torch.softmax(torch.stack(logs), dim=0).tolist()


COUNTS = list("0123456789")
LETTERS = list(ascii_lowercase)
WORD_ANSWERS = ["strawberry", "straw", "st", "fig", "a"]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scores_are_those_of_the_full_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int
) -> None:
    """Single- and multi-token candidates, prompts of different length, with the same and with other headers."""
    engine = TransformersEngine(model, tokenizer, batch_size)
    candidates = [(COUNTS, LETTERS, WORD_ANSWERS)[number % 3] for number in range(len(MIXED_PROMPTS))]
    lengths = {answer: len(tokenizer.tokenize(f" {answer}")) for answer in COUNTS + LETTERS + WORD_ANSWERS}
    assert {lengths[answer] for answer in COUNTS + LETTERS} == {1}
    assert len({lengths[answer] for answer in WORD_ANSWERS}) > 1
    scores = engine.score(MIXED_PROMPTS, candidates)
    for prompt, answers, probabilities in zip(MIXED_PROMPTS, candidates, scores, strict=True):
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert probabilities == pytest.approx(brute_force(model, tokenizer, prompt, tuple(answers)), abs=1e-4)


def test_a_candidate_that_merges_with_the_prompt(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """After a space the answer has another token than in `prompt + " " + answer`; the text is scored as it reads."""
    prompt = Prompt("Header", "\nAnswer: ")
    engine = TransformersEngine(model, tokenizer)
    (scores,) = engine.score([prompt], [["straw", "fig"]])
    logs = []
    for answer in ("straw", "fig"):
        ids = tokenizer.encode(f"{prompt.text} {answer}")
        log_probabilities = torch.log_softmax(model(torch.tensor([ids])).logits[0], dim=-1)
        logs.append(sum(log_probabilities[place - 1, ids[place]] for place in range(1, len(ids))))
    assert scores == pytest.approx(torch.softmax(torch.stack(logs), dim=0).tolist(), abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_a_draft_changes_nothing_about_what_is_written(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """Right from the first to the last token, right with one other token in it, right at first, wrong, or none."""
    engine = TransformersEngine(model, tokenizer, batch_size)
    expected = engine.generate(SPELLING_PROMPTS, NEW_TOKENS, letter_probabilities=True)
    for change in (
        lambda tokens, place: tokens,
        lambda tokens, place: [*tokens[:4], 7, *tokens[5:]],
        lambda tokens, place: [*tokens[:6], 7, 7, 7],
        lambda tokens, place: [7] * NEW_TOKENS,
        lambda tokens, place: tokens if place % 2 else [],
    ):
        drafts = {
            prompt.text: change(greedy(model, tokenizer, prompt.text)[0], place)
            for place, prompt in enumerate(SPELLING_PROMPTS)
        }
        monkeypatch.setattr(engine._tokens, "draft", lambda text, draft, drafts=drafts: drafts[text])
        written = engine.generate(SPELLING_PROMPTS, NEW_TOKENS, letter_probabilities=True, drafts=WORDS)
        for one, other in zip(written, expected, strict=True):
            assert (one.text, one.token_texts) == (other.text, other.token_texts)
            for step, wanted in zip(one.letter_probabilities, other.letter_probabilities, strict=True):
                assert step == pytest.approx(wanted, abs=1e-4)


def passes_of(engine: TransformersEngine, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes the number of tokens of each pass through the model from now on."""
    passes: list[int] = []
    run = engine.runner.run
    monkeypatch.setattr(engine.runner, "run", lambda step: passes.append(len(step.ids)) or run(step))
    return passes


def test_a_right_draft_is_checked_in_one_pass(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(model, tokenizer)
    engine.generate(SPELLING_PROMPTS[:1], 1)  # runs what all spelling prompts share
    passes = passes_of(engine, monkeypatch)
    tokens, _ = greedy(model, tokenizer, SPELLING_PROMPTS[0].text)
    engine.generate(SPELLING_PROMPTS[:1], NEW_TOKENS)
    assert len(passes) == len(up_to_the_line_break(tokenizer, tokens)[: NEW_TOKENS - 1]) + 1
    passes.clear()
    monkeypatch.setattr(engine._tokens, "draft", lambda text, draft: tokens[: NEW_TOKENS - 1])
    engine.generate(SPELLING_PROMPTS[:1], NEW_TOKENS, drafts=["as it happens"])
    assert len(passes) == 1


def test_a_draft_is_what_would_follow_after_a_space(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    engine = TransformersEngine(model, tokenizer)
    drafted = engine._tokens.draft(SPELLING_PROMPTS[0].text, "s t r a w")
    assert tokenizer.encode(SPELLING_PROMPTS[0].text) + drafted == tokenizer.encode(
        SPELLING_PROMPTS[0].text + " s t r a w"
    )


def test_what_prompts_share_is_run_once(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The examples and a question up to its word are run with the first prompt, and never again."""
    engine = TransformersEngine(model, tokenizer)
    ask = [direct_prompt(count_question(word, "r")) for word in WORDS]
    engine.score(ask[:1], [COUNTS])
    passes = passes_of(engine, monkeypatch)
    engine.score(ask, [COUNTS] * len(WORDS))
    assert passes == [sum(len(tokenizer.tokenize(prompt.body)) for prompt in ask)]


def test_prompts_with_different_leads_to_their_answers_are_read_once(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the questions of both types are where " 3" is two tokens and " r" is one."""
    engine = TransformersEngine(model, tokenizer)
    engine.score(MIXED_PROMPTS, [LETTERS] * len(MIXED_PROMPTS))  # runs what they share
    monkeypatch.setattr(
        engine._tokens, "continuations", lambda text, ids, answers: ([*ids, *[5] * (len(text) % 2)], [[6], [7]])
    )
    passes = passes_of(engine, monkeypatch)
    engine.score_and_generate(MIXED_PROMPTS, [LETTERS[:2]] * len(MIXED_PROMPTS), 1)
    own = [len(engine._tokens.split(prompt, tokenizer.encode(prompt.text))[1]) for prompt in MIXED_PROMPTS]
    assert passes == [sum(own) + sum(len(prompt.text) % 2 for prompt in MIXED_PROMPTS)]


def test_what_goes_on_after_one_batch_is_written_with_the_next(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No pass writes after fewer texts than a batch has, but those after the last batch is read."""
    size = 4
    engine = TransformersEngine(model, tokenizer, size)
    engine.score(MIXED_PROMPTS, [LETTERS] * len(MIXED_PROMPTS))  # runs what they share
    passes = passes_of(engine, monkeypatch)
    for start in range(0, len(MIXED_PROMPTS), size):
        engine.generate(MIXED_PROMPTS[start : start + size], NEW_TOKENS)
    separately = [tokens < size for tokens in passes]
    passes.clear()
    engine.generate(MIXED_PROMPTS, NEW_TOKENS)
    narrow = [tokens < size for tokens in passes]
    assert narrow == sorted(narrow)
    assert len(narrow) < len(separately)


def test_nothing_asked_gives_nothing(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    engine = TransformersEngine(model, tokenizer)
    assert engine.generate([], NEW_TOKENS) == []
    assert engine.score([], []) == []


def test_one_candidate_is_certain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    assert TransformersEngine(model, tokenizer).score(SPELLING_PROMPTS[:1], [["a"]]) == [[1.0]]


def test_an_engine_answers_the_same_again(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """What the first call leaves in the cache of the header does not touch the next."""
    engine = TransformersEngine(model, tokenizer, batch_size=4)
    first = engine.generate(SPELLING_PROMPTS, NEW_TOKENS, letter_probabilities=True)
    scores = engine.score(SPELLING_PROMPTS, [LETTERS] * len(WORDS))
    assert engine.generate(SPELLING_PROMPTS, NEW_TOKENS, letter_probabilities=True) == first
    assert engine.score(SPELLING_PROMPTS, [LETTERS] * len(WORDS)) == scores


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize(
    "answers",
    [[COUNTS], [LETTERS], [WORD_ANSWERS], [COUNTS, WORD_ANSWERS, LETTERS]],
    ids=["counts", "letters", "words", "each in turn"],
)
def test_scoring_and_generating_at_once_gives_what_each_gives(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, answers: list[list[str]], batch_size: int
) -> None:
    engine = TransformersEngine(model, tokenizer, batch_size)
    candidates = [answers[number % len(answers)] for number in range(len(MIXED_PROMPTS))]
    scores, generations = engine.score_and_generate(MIXED_PROMPTS, candidates, NEW_TOKENS)
    assert generations == engine.generate(MIXED_PROMPTS, NEW_TOKENS)
    for one, other in zip(scores, engine.score(MIXED_PROMPTS, candidates), strict=True):
        assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 64])
@pytest.mark.parametrize("likely", [1.0, 40.0], ids=["the space is not written", "the space is written"])
def test_candidates_after_a_token_of_their_own_are_scored_behind_it(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    monkeypatch: pytest.MonkeyPatch,
    batch_size: int,
    likely: float,
) -> None:
    """As where " 3" is the tokens " " and "3": some rows go on from that space, others never write it.

    Beside them stand prompts whose candidates follow at once.
    """
    engine = TransformersEngine(model, tokenizer, batch_size)
    space, digits = tokenizer.encode(" q")[0], [[tokenizer.encode(str(number))[0]] for number in range(10)]
    lead = {prompt.text: [space] * (place % 3 > 0) for place, prompt in enumerate(MIXED_PROMPTS)}
    monkeypatch.setattr(engine._tokens, "continuations", lambda text, ids, answers: ([*ids, *lead[text]], digits))
    bias = torch.zeros(model.config.vocab_size)
    bias[space] = likely - 1.0
    with torch.no_grad():
        handle = model.get_output_embeddings().register_forward_hook(lambda *given: given[2] + bias)
    try:
        candidates = [COUNTS] * len(MIXED_PROMPTS)
        scores, generations = engine.score_and_generate(MIXED_PROMPTS, candidates, NEW_TOKENS)
        assert generations == engine.generate(MIXED_PROMPTS, NEW_TOKENS)
        wrote_it = [generation.token_texts[:1] == (tokenizer.decode([space]),) for generation in generations]
        assert all(wrote_it) == (likely > 1)
        for one, other in zip(scores, engine.score(MIXED_PROMPTS, candidates), strict=True):
            assert one == pytest.approx(other, abs=1e-5)
    finally:
        handle.remove()
