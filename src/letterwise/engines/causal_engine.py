"""Greedy generation and scoring with any causal language model that a `Runner` runs.

Tokens that prompts share are run once and their keys and values kept; prompts of any kind run in one batch. A draft of
what the model will probably write is checked in one pass instead of one pass a token (compare Leviathan et al., 2023,
"Fast inference from transformers via speculative decoding"): what comes out is what greedy decoding writes, draft or
not. Knows nothing about tasks, files or metrics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from letterwise.engines.engine import Generation
from letterwise.engines.packing import Path, PrefixStore, run
from letterwise.engines.runner import KeyShape, Runner
from letterwise.engines.tokens import PromptTokens
from letterwise.engines.writing import Batch, Writer
from letterwise.engines.written_text import LETTERS, WrittenText
from letterwise.tasks.questions import Prompt


class CausalEngine:
    """An engine over a runner."""

    def __init__(
        self,
        runner: Runner,
        shape: KeyShape,
        vocabulary_size: int,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int = 64,
    ) -> None:
        """Prepare; nothing runs before it is asked.

        Args:
            runner: runs the model.
            shape: of the model's keys.
            vocabulary_size: how many logits the model gives.
            tokenizer: of that model.
            batch_size: prompts read in one forward pass; it may write after nearly twice as many.
        """
        self.runner = runner
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self._tokens = PromptTokens(tokenizer)
        self._prefixes = PrefixStore(runner, shape)
        self._written = WrittenText(tokenizer, vocabulary_size)
        self._letter_tokens = torch.tensor(self._written.letter_tokens, dtype=torch.long, device=runner.device)
        self._letter_indices = torch.tensor(self._written.letter_indices, dtype=torch.long, device=runner.device)

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Prompt],
        max_new_tokens: int,
        letter_probabilities: bool = False,
        drafts: Sequence[str] | None = None,
    ) -> list[Generation]:
        """Greedy continuation of each prompt up to a line break, in the order given."""
        encoded = self._tokens.encode_all([prompt.text for prompt in prompts])
        expected = [
            self._tokens.draft(prompt.text, draft)[: max_new_tokens - 1] if draft else []
            for prompt, draft in zip(prompts, drafts or [""] * len(prompts), strict=True)
        ]
        letters: list[list[Tensor]] = [[] for _ in prompts]

        def note(index: int, logits: Tensor) -> None:
            letters[index].extend(self._by_letter(logits))

        on_logits = note if letter_probabilities else _nothing
        written = self._write(prompts, encoded, expected, max_new_tokens, on_logits)
        return [
            self._written.generation(tokens, [step.tolist() for step in steps])
            for tokens, steps in zip(written, letters, strict=True)
        ]

    @torch.inference_mode()
    def score(self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]) -> list[list[float]]:
        """Probabilities of each prompt's candidates, in the order given, summing to one for each prompt."""
        texts: list[list[int]] = []  # what the model reads, one or more rows a prompt
        targets: list[list[list[int]]] = []  # for each row, the continuations whose probability is wanted
        owners: list[int] = []
        for index, (stem, endings) in enumerate(self._continued(prompts, candidates)):
            if all(len(ending) == 1 for ending in endings):
                texts.append(stem)
                targets.append(endings)
                owners.append(index)
            else:
                for ending in endings:
                    texts.append([*stem, *ending[:-1]])
                    targets.append([ending])
                    owners.append(index)
        logs: list[list[float]] = [[] for _ in prompts]
        row_logs = self._scored_rows([prompts[owner] for owner in owners], texts, targets)
        for owner, values in zip(owners, row_logs, strict=True):
            logs[owner].extend(values)
        return [torch.softmax(torch.tensor(values), dim=0).tolist() for values in logs]

    @torch.inference_mode()
    def score_and_generate(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]], max_new_tokens: int
    ) -> tuple[list[list[float]], list[Generation]]:
        """Both, reading a prompt once where its candidates are single tokens after the same text."""
        parts = self._continued(prompts, candidates)
        encoded = self._tokens.encode_all([prompt.text for prompt in prompts])
        # What stands between prompt and answer, such as a space, is the draft: the answer is scored behind it, and what
        # is written agrees with it or not.
        leads = [stem[len(ids) :] for ids, (stem, _) in zip(encoded, parts, strict=True)]
        together = [
            index
            for index, (ids, (stem, endings)) in enumerate(zip(encoded, parts, strict=True))
            if stem[: len(ids)] == ids and all(len(ending) == 1 for ending in endings)
        ]
        scores: dict[int, list[float]] = {}
        generations: dict[int, Generation] = {}
        if apart := sorted(set(range(len(prompts))) - set(together)):
            asked = [prompts[index] for index in apart]
            scores.update(zip(apart, self.score(asked, [candidates[index] for index in apart]), strict=True))
            generations.update(zip(apart, self.generate(asked, max_new_tokens), strict=True))

        def score_first(place: int, logits: Tensor) -> None:
            index = together[place]
            if index not in scores:
                chosen = logits[-1, [ending[0] for ending in parts[index][1]]]
                scores[index] = torch.softmax(chosen.float(), dim=0).tolist()

        written = self._write(
            [prompts[index] for index in together],
            [encoded[index] for index in together],
            [leads[index] for index in together],
            max_new_tokens,
            score_first,
            whole=True,
        )
        generations.update(zip(together, (self._written.generation(tokens, []) for tokens in written), strict=True))
        everything = range(len(prompts))
        return [scores[index] for index in everything], [generations[index] for index in everything]

    def _continued(
        self, prompts: Sequence[Prompt], candidates: Sequence[Sequence[str]]
    ) -> list[tuple[list[int], list[list[int]]]]:
        encoded = self._tokens.encode_all([prompt.text for prompt in prompts])
        return [
            self._tokens.continuations(prompt.text, ids, answers)
            for prompt, ids, answers in zip(prompts, encoded, candidates, strict=True)
        ]

    def _scored_rows(
        self, prompts: Sequence[Prompt], texts: list[list[int]], targets: list[list[list[int]]]
    ) -> list[list[float]]:
        """For each row the log probability of each target, up to what all targets of single tokens share."""
        results: list[list[float]] = [[] for _ in texts]
        for batch, paths, own in self._batches(prompts, texts):
            keep = [len(targets[index][0]) for index in batch]
            logits = run(self.runner, self._prefixes.start(paths), own, keep)
            for index, steps in zip(batch, torch.split(logits, keep), strict=True):
                if len(targets[index]) > 1:
                    results[index] = steps[0, [ending[0] for ending in targets[index]]].tolist()
                else:
                    (ending,) = targets[index]
                    chosen = torch.log_softmax(steps.float(), dim=-1)[range(len(ending)), ending]
                    results[index] = [float(chosen.sum())]
        return results

    def _batches(
        self, prompts: Sequence[Prompt], texts: Sequence[list[int]]
    ) -> Iterator[tuple[list[int], list[Path], list[list[int]]]]:
        """Indices of rows of like length, with the paths they begin with and the tokens of their own."""
        parts = [self._tokens.split(prompt, ids) for prompt, ids in zip(prompts, texts, strict=True)]
        order = sorted(range(len(parts)), key=lambda index: len(parts[index][1]))
        for start in range(0, len(order), self.batch_size):
            batch = order[start : start + self.batch_size]
            yield batch, [parts[index][0] for index in batch], [parts[index][1] for index in batch]

    def _write(
        self,
        prompts: Sequence[Prompt],
        encoded: Sequence[list[int]],
        drafts: Sequence[list[int]],
        max_new_tokens: int,
        on_logits: Callable[[int, Tensor], None],
        whole: bool = False,
    ) -> list[list[int]]:
        """What each prompt is continued with by greedy decoding, up to a line break; compare `Writer`."""
        writer = Writer(
            self.runner, drafts, lambda tokens: self._written.ended(tokens, max_new_tokens), on_logits, whole
        )
        batches = self._batches(prompts, encoded)
        writer.write((Batch(batch, self._prefixes.start(paths), own) for batch, paths, own in batches), self.batch_size)
        return writer.written

    def _by_letter(self, logits: Tensor) -> Tensor:
        """Probability of each letter and, last, of any other token, shape (tokens, 27)."""
        chosen = logits[:, self._letter_tokens].float()
        probabilities = torch.exp(chosen - torch.logsumexp(logits.float(), dim=-1, keepdim=True))
        by_letter = torch.zeros(len(logits), len(LETTERS) + 1, dtype=torch.float32, device=logits.device)
        by_letter.index_add_(1, self._letter_indices, probabilities)
        by_letter[:, -1] = (1 - by_letter.sum(dim=-1)).clamp(min=0)
        return by_letter.cpu()


def _nothing(row: int, logits: Tensor) -> None:
    """For writing where the logits are not wanted."""
