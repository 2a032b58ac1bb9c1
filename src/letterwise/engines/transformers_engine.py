"""The reference engine: a transformers model on any device.

The tokens that all prompts of a call share (the few-shot examples) are run once and their keys and values reused.
Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

import copy
import string
from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
from transformers import (
    DynamicCache,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from letterwise.engines.engine import Generation
from letterwise.tasks.questions import Prompt

_LETTERS = string.ascii_lowercase


class _LetterRecorder:
    """Notes the probability of each letter at every decoding step; changes nothing."""

    def __init__(self, letter_of_token: torch.Tensor) -> None:
        self.letter_of_token = letter_of_token
        self.steps: list[torch.Tensor] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        probabilities = torch.softmax(scores.float(), dim=-1)
        by_letter = torch.zeros(len(scores), len(_LETTERS) + 1, device=scores.device)
        self.steps.append(by_letter.index_add_(1, self.letter_of_token, probabilities).cpu())
        return scores


class TransformersEngine:
    """Greedy generation and scoring with a causal language model of transformers or peft."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64) -> None:
        """Wrap a loaded model.

        Args:
            model: in evaluation mode, on its device.
            tokenizer: of that model, with a padding token.
            batch_size: prompts in one forward pass.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        vocabulary = tokenizer.batch_decode([[token] for token in range(model.config.vocab_size)])
        self._letter_of_token = torch.tensor([_letter_index(text) for text in vocabulary], device=model.device)
        ends = [token for token, text in enumerate(vocabulary) if "\n" in text]
        self._end_ids = sorted({*ends, *(id_ for id_ in [tokenizer.eos_token_id] if id_ is not None)})
        self._seams: dict[tuple[str, str], tuple[int, list[int]]] = {}
        self._prefixes: dict[tuple[int, ...], DynamicCache] = {}

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, letter_probabilities: bool = False
    ) -> list[Generation]:
        """Greedy continuation of each prompt up to a line break, in the order given."""
        encoded = [self._encode(prompt.text) for prompt in prompts]
        generations: list[Generation | None] = [None] * len(prompts)
        for batch, shared in self._batches(prompts, encoded):
            inputs = self._inputs([encoded[index] for index in batch], shared)
            recorder = _LetterRecorder(self._letter_of_token)
            width = inputs["input_ids"].shape[1]
            written = self.model.generate(
                **inputs,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=self._end_ids,
                pad_token_id=self.tokenizer.pad_token_id,
                logits_processor=LogitsProcessorList([recorder] if letter_probabilities else []),
            )[:, width:]
            for row, index in enumerate(batch):
                steps = [step[row] for step in recorder.steps]
                generations[index] = self._generation(written[row].tolist(), steps)
        return [generation for generation in generations if generation is not None]

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Probabilities of each prompt's candidates, in the order given, summing to one for each prompt."""
        rows: list[list[int]] = []  # what the model reads, one or more rows a prompt
        targets: list[list[list[int]]] = []  # for each row, the continuations whose probability is wanted
        owners: list[int] = []
        for index, (prompt, answers) in enumerate(zip(prompts, candidates, strict=True)):
            stem, endings = self._continuations(prompt.text, answers)
            if all(len(ending) == 1 for ending in endings):
                rows.append(stem)
                targets.append(endings)
                owners.append(index)
            else:
                for ending in endings:
                    rows.append([*stem, *ending[:-1]])
                    targets.append([ending])
                    owners.append(index)
        logs: list[list[float]] = [[] for _ in prompts]
        row_logs = self._row_log_probabilities([prompts[owner] for owner in owners], rows, targets)
        for owner, values in zip(owners, row_logs, strict=True):
            logs[owner].extend(values)
        return [torch.softmax(torch.tensor(values), dim=0).tolist() for values in logs]

    def _row_log_probabilities(
        self, prompts: Sequence[Prompt], rows: list[list[int]], targets: list[list[list[int]]]
    ) -> list[list[float]]:
        results: list[list[float]] = [[] for _ in rows]
        for batch, shared in self._batches(prompts, rows):
            inputs = self._inputs([rows[index] for index in batch], shared)
            longest = max(len(targets[index][0]) for index in batch)
            mask = inputs["attention_mask"]
            logits = self.model(
                input_ids=inputs["input_ids"][:, shared:],
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0)[:, shared:],
                past_key_values=inputs["past_key_values"],
                use_cache=True,
                logits_to_keep=longest,
            ).logits
            log_probabilities = torch.log_softmax(logits.float(), dim=-1)
            for row, index in enumerate(batch):
                for ending in targets[index]:
                    steps = log_probabilities[row, longest - len(ending) :]
                    chosen = steps.gather(1, torch.tensor(ending, device=steps.device)[:, None])
                    results[index].append(float(chosen.sum()))
        return results

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text)["input_ids"])

    def _continuations(self, text: str, answers: Sequence[str]) -> tuple[list[int], list[list[int]]]:
        """Token ids of the prompt, and for each answer the ids that follow them.

        Tokens at the seam may merge with the answer's, so those that do are left to the endings. Only the prompt's
        last line is tokenized again: no tokenizer merges across a line break and a word.
        """
        ids, last_line = self._encode(text), text.rpartition("\n")[2]
        seams = [self._seam(last_line, answer) for answer in answers]
        kept = len(ids) - max(dropped for dropped, _ in seams)
        endings = [[*ids[kept : len(ids) - dropped], *added] for dropped, added in seams]
        shared = min(_common_prefix(endings), min(map(len, endings)) - 1)
        return [*ids[:kept], *endings[0][:shared]], [ending[shared:] for ending in endings]

    def _seam(self, last_line: str, answer: str) -> tuple[int, list[int]]:
        """How many tokens the line loses at its end when the answer follows, and the ids it gains."""
        if (last_line, answer) not in self._seams:
            alone, joined = self._encode(last_line), self._encode(f"{last_line} {answer}")
            shared = _common_prefix([alone, joined])
            self._seams[last_line, answer] = (len(alone) - shared, joined[shared:])
        return self._seams[last_line, answer]

    def _batches(self, prompts: Sequence[Prompt], rows: list[list[int]]) -> Iterator[tuple[list[int], int]]:
        """Indices of rows of like length with the same header, and how many leading tokens those share."""
        order = sorted(range(len(rows)), key=lambda index: (prompts[index].header, len(rows[index])))
        for _, group in groupby(order, key=lambda index: prompts[index].header):
            members = list(group)
            header = self._encode(prompts[members[0]].header)
            # One token stays outside the cache, so that every row has something to run.
            shared = min(_common_prefix([header, rows[index]]) for index in members)
            shared = min([shared, *(len(rows[index]) - 1 for index in members)])
            for start in range(0, len(members), self.batch_size):
                yield members[start : start + self.batch_size], shared

    def _inputs(self, rows: list[list[int]], shared: int) -> dict[str, torch.Tensor | DynamicCache]:
        """Left-padded tensors of shape (rows, shared + longest rest), padding after the shared prefix."""
        width = max(map(len, rows)) - shared
        padding = self.tokenizer.pad_token_id
        ids, masks = [], []
        for row in rows:
            gap = width - (len(row) - shared)
            ids.append([*row[:shared], *[padding] * gap, *row[shared:]])
            masks.append([*[1] * shared, *[0] * gap, *[1] * (len(row) - shared)])
        device = self.model.device
        return {
            "input_ids": torch.tensor(ids, device=device),
            "attention_mask": torch.tensor(masks, device=device),
            "past_key_values": self._cached(rows[0][:shared], len(rows)),
        }

    def _cached(self, prefix: list[int], batch: int) -> DynamicCache:
        if not prefix:
            return DynamicCache(config=self.model.config)
        key = tuple(prefix)
        if key not in self._prefixes:
            cache = DynamicCache(config=self.model.config)
            ids = torch.tensor([prefix], device=self.model.device)
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._prefixes = {key: cache}
        cache = copy.deepcopy(self._prefixes[key])
        cache.batch_repeat_interleave(batch)
        return cache

    def _generation(self, tokens: list[int], steps: list[torch.Tensor]) -> Generation:
        ends = set(self._end_ids)
        length = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        # The ending token may hold text before its line break (".\n").
        text = self.tokenizer.decode(tokens[: length + 1], skip_special_tokens=True)
        probabilities = tuple(
            {name: float(step[place]) for place, name in enumerate([*_LETTERS, ""])} for step in steps[:length]
        )
        return Generation(
            text=text.lstrip("\n").partition("\n")[0] if length else text.partition("\n")[0],
            token_texts=tuple(self.tokenizer.decode([token]) for token in tokens[:length]),
            letter_probabilities=probabilities,
        )


def _letter_index(token_text: str) -> int:
    letter = token_text.strip().lower()
    return _LETTERS.index(letter) if len(letter) == 1 and letter in _LETTERS else len(_LETTERS)


def _common_prefix(sequences: Sequence[list[int]]) -> int:
    """Length of the longest prefix that all sequences share."""
    shortest, longest = min(sequences), max(sequences)
    for place, (first, last) in enumerate(zip(shortest, longest, strict=False)):
        if first != last:
            return place
    return min(map(len, sequences))
