"""The reference engine: a transformers model on any device.

The tokens that all prompts of a call share (the few-shot examples) are run once and their keys and values reused.
Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

import string
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from letterwise.engines.engine import Generation
from letterwise.engines.shared_prefix import SharedPrefix, shared_prefix_attention
from letterwise.tasks.questions import Prompt

_LETTERS = string.ascii_lowercase
_KEPT_PREFIXES = 64
"""Some megabytes each for a small model."""


@dataclass(slots=True)
class _Rows:
    """Rows on their way through the model, behind a shared prefix; without the prefix's tokens."""

    prefix: SharedPrefix
    cache: DynamicCache
    seen: torch.Tensor
    """Which of the tokens run so far are no padding: bool, shape (rows, tokens)."""

    def select(self, places: torch.Tensor) -> None:
        """Go on with these rows only."""
        self.cache.batch_select_indices(places)
        self.seen = self.seen[places]


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
        self._prefixes: OrderedDict[tuple[int, ...], SharedPrefix] = OrderedDict()

    @torch.inference_mode()
    def generate(
        self, prompts: Sequence[Prompt], max_new_tokens: int, letter_probabilities: bool = False
    ) -> list[Generation]:
        """Greedy continuation of each prompt up to a line break, in the order given."""
        encoded = [self._encode(prompt.text) for prompt in prompts]
        generations: list[Generation | None] = [None] * len(prompts)
        for batch, shared in self._batches(prompts, encoded):
            state, logits = self._start([encoded[index] for index in batch], shared, keep=1)
            written, letters = self._decode(state, logits[:, -1], max_new_tokens, letter_probabilities)
            for index, tokens, steps in zip(batch, written, letters, strict=True):
                generations[index] = self._generation(tokens, steps)
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

    @torch.inference_mode()
    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        """Both, reading each prompt once where its candidates are single tokens after the same text."""
        encoded = [self._encode(prompt.text) for prompt in prompts]
        parts = [self._continuations(prompt.text, answers) for prompt, answers in zip(prompts, candidates, strict=True)]
        leads = {tuple(stem[len(ids) :]) for ids, (stem, _) in zip(encoded, parts, strict=True)}
        alike = len(leads) == 1 and all(
            stem[: len(ids)] == ids and all(len(ending) == 1 for ending in endings)
            for ids, (stem, endings) in zip(encoded, parts, strict=True)
        )
        if not alike:
            return self.score(prompts, candidates), self.generate(prompts, max_new_tokens)
        (lead,) = leads
        scores: list[list[float]] = [[] for _ in prompts]
        generations: dict[int, Generation] = {}
        for batch, shared in self._batches(prompts, encoded):
            state, logits = self._start([parts[index][0] for index in batch], shared, keep=len(lead) + 1)
            for row, index in enumerate(batch):
                chosen = logits[row, -1, [ending[0] for ending in parts[index][1]]]
                scores[index] = torch.softmax(chosen.float(), dim=0).tolist()
            written = []
            for row, tokens in enumerate(logits.argmax(dim=-1).tolist()):
                # What greedy decoding writes agrees with the lead up to some place; the rest of the lead is unread.
                agreed = _common_prefix([tokens, [*lead, -1]])
                written.append(tokens[: agreed + 1])
                if agreed < len(lead):
                    state.seen[row, -(len(lead) - agreed) :] = False
            self._write_on(state, written, max_new_tokens)
            generations.update(zip(batch, (self._generation(tokens, []) for tokens in written), strict=True))
        return scores, [generations[index] for index in range(len(prompts))]

    def _row_log_probabilities(
        self, prompts: Sequence[Prompt], rows: list[list[int]], targets: list[list[list[int]]]
    ) -> list[list[float]]:
        results: list[list[float]] = [[] for _ in rows]
        for batch, shared in self._batches(prompts, rows):
            longest = max(len(targets[index][0]) for index in batch)
            _, logits = self._start([rows[index] for index in batch], shared, keep=longest)
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

    def _decode(
        self, state: _Rows, logits: torch.Tensor, max_new_tokens: int, letter_probabilities: bool
    ) -> tuple[list[list[int]], list[list[torch.Tensor]]]:
        """The tokens that greedy decoding writes after each row and, if wanted, the letter probabilities at each.

        Args:
            state: rows that have been run.
            logits: of the last place of each row, shape (rows, tokens).
            max_new_tokens: most tokens to write.
            letter_probabilities: whether they are wanted.
        """
        letters: list[list[torch.Tensor]] = [[] for _ in logits]

        def note(rows: list[int], logits: torch.Tensor) -> None:
            for row, probabilities in zip(rows, self._by_letter(logits), strict=True):
                letters[row].append(probabilities)

        on_logits = note if letter_probabilities else lambda rows, logits: None
        on_logits(list(range(len(logits))), logits)
        written = [[token] for token in logits.argmax(dim=-1).tolist()]
        self._write_on(state, written, max_new_tokens, on_logits)
        return written, letters

    def _write_on(
        self,
        state: _Rows,
        written: list[list[int]],
        max_new_tokens: int,
        on_logits: Callable[[list[int], torch.Tensor], None] = lambda rows, logits: None,
    ) -> None:
        """Go on with greedy decoding after the last token written for each row, which has not been run yet.

        A row leaves the batch when it has ended, so that the long ones do not keep all others running.
        """
        batch = list(range(len(written)))
        while going := [
            row for row in batch if written[row][-1] not in self._end_ids and len(written[row]) < max_new_tokens
        ]:
            if len(going) < len(batch):
                state.select(torch.tensor([batch.index(row) for row in going], device=self.model.device))
                batch = going
            ids = torch.tensor([written[row][-1:] for row in going], device=self.model.device)
            logits = self._run(state, ids, torch.ones_like(ids, dtype=torch.bool), keep=1)[:, -1]
            on_logits(going, logits)
            for row, token in zip(going, logits.argmax(dim=-1).tolist(), strict=True):
                written[row].append(token)

    def _by_letter(self, logits: torch.Tensor) -> torch.Tensor:
        """Probability of each letter and of any other token, shape (rows, 27)."""
        probabilities = torch.softmax(logits.float(), dim=-1)
        by_letter = torch.zeros(len(logits), len(_LETTERS) + 1, device=logits.device)
        return by_letter.index_add_(1, self._letter_of_token, probabilities).cpu()

    def _start(self, rows: list[list[int]], shared: int, keep: int) -> tuple[_Rows, torch.Tensor]:
        """Run rows that share their first tokens; the logits of the last `keep` places, shape (rows, keep, tokens)."""
        width = max(map(len, rows)) - shared
        gaps = [width - (len(row) - shared) for row in rows]
        padded = [[self.tokenizer.pad_token_id] * gap + row[shared:] for gap, row in zip(gaps, rows, strict=True)]
        ids = torch.tensor(padded, device=self.model.device)
        real = torch.arange(width, device=ids.device)[None] >= torch.tensor(gaps, device=ids.device)[:, None]
        state = _Rows(self._prefix(rows[0], shared), DynamicCache(), real[:, :0])
        return state, self._run(state, ids, real, keep)

    def _run(self, state: _Rows, ids: torch.Tensor, real: torch.Tensor, keep: int) -> torch.Tensor:
        """Let the rows go on with `ids`, shape (rows, new tokens), of which `real` are no padding."""
        before, new = state.seen.shape[1], ids.shape[1]
        state.seen = torch.cat([state.seen, real], dim=1)
        positions = state.prefix.length + (state.seen.cumsum(dim=1)[:, before:] - 1).clamp(min=0)
        causal = torch.ones(new, before + new, dtype=torch.bool, device=ids.device).tril(before)
        hidden = ~(causal & state.seen[:, None, :])[:, None]
        dtype = self.model.dtype
        mask = torch.zeros(hidden.shape, dtype=dtype, device=ids.device).masked_fill(hidden, torch.finfo(dtype).min)
        with shared_prefix_attention(self.model):
            logits: torch.Tensor = self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=state.cache,
                use_cache=True,
                # Places rather than a number: a slice would not be contiguous, and the product with the output layer
                # would then copy its weights for each row.
                logits_to_keep=torch.arange(new - keep, new, device=ids.device),
                shared_prefix=state.prefix,
            ).logits
        return logits

    def _prefix(self, row: list[int], length: int) -> SharedPrefix:
        key = tuple(row[:length])
        if key not in self._prefixes:
            cache = DynamicCache()
            # One token at least, so that an empty prefix has shapes too.
            ids = torch.tensor([row[: max(length, 1)]], device=self.model.device)
            self.model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            self._prefixes[key] = SharedPrefix.from_cache(cache, length)
            while len(self._prefixes) > _KEPT_PREFIXES:
                self._prefixes.popitem(last=False)
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

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
