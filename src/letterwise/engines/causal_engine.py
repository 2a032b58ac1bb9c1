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
from letterwise.engines.packing import Path, PrefixStore, Rows, run
from letterwise.engines.runner import KeyShape, Runner
from letterwise.engines.tokens import PromptTokens, common_prefix
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
            batch_size: prompts in one forward pass.
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
        generations: dict[int, Generation] = {}
        for batch, paths, own in self._batches(prompts, encoded):
            rows = self._prefixes.start(paths)
            written: list[list[int]] = [[] for _ in batch]
            letters: list[list[Tensor]] = [[] for _ in batch]

            def note(row: int, logits: Tensor, letters: list[list[Tensor]] = letters) -> None:
                letters[row].extend(self._by_letter(logits))

            on_logits = note if letter_probabilities else _nothing
            self._write(rows, own, [expected[index] for index in batch], written, max_new_tokens, on_logits)
            for index, tokens, steps in zip(batch, written, letters, strict=True):
                generations[index] = self._written.generation(tokens, [step.tolist() for step in steps])
        return [generations[index] for index in range(len(prompts))]

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
        """Both, reading each prompt once where its candidates are single tokens after the same text."""
        encoded = self._tokens.encode_all([prompt.text for prompt in prompts])
        parts = self._continued(prompts, candidates)
        leads = {tuple(stem[len(ids) :]) for ids, (stem, _) in zip(encoded, parts, strict=True)}
        alike = len(leads) == 1 and all(
            stem[: len(ids)] == ids and all(len(ending) == 1 for ending in endings)
            for ids, (stem, endings) in zip(encoded, parts, strict=True)
        )
        if not alike:
            return self.score(prompts, candidates), self.generate(prompts, max_new_tokens)
        # What stands between prompt and answer, such as a space, is the draft: the answer is scored behind it, and what
        # is written agrees with it or not.
        (lead,) = leads
        scores: dict[int, list[float]] = {}
        generations: dict[int, Generation] = {}
        for batch, paths, own in self._batches(prompts, encoded):
            rows = self._prefixes.start(paths)
            written: list[list[int]] = [[] for _ in batch]

            def score_first(row: int, logits: Tensor, batch: list[int] = batch) -> None:
                if batch[row] not in scores:
                    chosen = logits[-1, [ending[0] for ending in parts[batch[row]][1]]]
                    scores[batch[row]] = torch.softmax(chosen.float(), dim=0).tolist()

            self._write(rows, own, [list(lead)] * len(batch), written, max_new_tokens, score_first, whole=True)
            generations.update(zip(batch, (self._written.generation(tokens, []) for tokens in written), strict=True))
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
        rows: Rows,
        own: Sequence[list[int]],
        drafts: Sequence[list[int]],
        written: list[list[int]],
        max_new_tokens: int,
        on_logits: Callable[[int, Tensor], None],
        whole: bool = False,
    ) -> None:
        """Write after each row, by greedy decoding, until a line break.

        A row leaves the batch when it has ended, so that the long ones do not keep all others running.

        Args:
            rows: rows behind their prefixes.
            own: the rows' own tokens, not run yet.
            drafts: what each row will probably write.
            written: takes what each row writes.
            max_new_tokens: most tokens to write.
            on_logits: called with a row and the logits behind each token that it writes next, of shape
                (tokens, vocabulary).
            whole: give it the logits behind the whole of the draft at first, whether it is written or not.
        """
        batch = list(range(len(own)))
        run_next, drafts = [list(tokens) for tokens in own], list(drafts)
        while batch:
            keep = [1 + len(drafts[row]) for row in batch]
            logits = run(self.runner, rows, [[*run_next[row], *drafts[row]] for row in batch], keep)
            chosen = torch.split(logits.argmax(dim=-1), keep)
            for place, (row, tokens, steps) in enumerate(zip(batch, chosen, torch.split(logits, keep), strict=True)):
                draft, best = drafts[row], tokens.tolist()
                agreed = common_prefix([best[:-1], draft])
                on_logits(row, steps if whole else steps[: agreed + 1])
                written[row].extend(best[: agreed + 1])
                rows.take_back(place, len(draft) - agreed)
                run_next[row] = written[row][-1:]
                # One letter may be another one and the rest as expected; a draft that fails at once is out of step.
                drafts[row] = draft[agreed + 1 :] if agreed or not draft or len(written[row]) == 1 else []
            whole = False
            going = [row for row in batch if not self._written.ended(written[row], max_new_tokens)]
            if going and len(going) < len(batch):
                rows.select([batch.index(row) for row in going])
            batch = going

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
