"""What benchmarks/evaluation_speed.py measures: letterwise's evaluation, a loop around `generate`, and the harness.

All ask the same model about the same words and questions; each stands in a process of its own and answers when it is
asked to.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from turns import Turns

from letterwise import hardware
from letterwise.adapters import load_merged
from letterwise.config import EvaluationConfig
from letterwise.engines.transformers_engine import TransformersEngine
from letterwise.engines.written_text import WrittenText
from letterwise.evaluation.answering import ANSWER_TOKENS, spelling_token_limit
from letterwise.evaluation.evaluate import EvaluationItems, evaluate_model
from letterwise.exporting.lm_eval_tasks import export_lm_eval, task_name
from letterwise.models import load_tokenizer, resolve_base
from letterwise.results import QUESTION_TYPES, TASKS
from letterwise.tasks.questions import Question, direct_prompt, spell_first_prompt
from letterwise.tasks.spelling import parse_spelling, spelling_prompt

Answers = dict[str, dict[str, str]]
"""For each way of asking, what was answered, by word or by id of the question."""


def run_variant(spec: dict[str, Any]) -> None:
    """Be the variant that the parent asked for, until it has had enough."""
    kinds: dict[str, Callable[[dict[str, Any]], Callable[..., Answers]]] = {
        "letterwise": ours,
        "letterwise scores": our_scores,
        "generate": generate_loop,
        "lm_eval": harness,
    }
    work = kinds[spec["stack"]](spec)
    turns = Turns()
    turns.answer()
    while order := turns.order():
        questions = [Question(**question) for question in order["questions"]]
        started = time.perf_counter()
        answers = work(order["words"], questions)
        turns.answer(seconds=time.perf_counter() - started, answers=answers)


def ours(spec: dict[str, Any]) -> Callable[[Sequence[str], Sequence[Question]], Answers]:
    """Everything that `letterwise evaluate` asks one model, with probabilities, and the tables that it writes."""
    model, tokenizer = _our_model(spec)

    def work(words: Sequence[str], questions: Sequence[Question]) -> Answers:
        with tempfile.TemporaryDirectory() as scratch:
            answered = evaluate_model(
                "finetuned",
                lambda: TransformersEngine(model, tokenizer),
                tokenizer,
                EvaluationItems(words, [], questions),
                EvaluationConfig(),
                TASKS,
                "benchmark",
                Path(scratch),
            )
            spelled = [row for path in answered.spelling for row in pq.read_table(path).to_pylist()]
            asked = [row for path in answered.position_count for row in pq.read_table(path).to_pylist()]
        found: Answers = {"spelling": {row["word"]: row["generated_text"].strip() for row in spelled}}
        for row in asked:
            text = row["predicted"] if row["mode"] == "computed" else row["generated_text"]
            found.setdefault(row["mode"], {})[row["id"]] = (text or "").strip()
        return found

    return work


def our_scores(spec: dict[str, Any]) -> Callable[[Sequence[str], Sequence[Question]], Answers]:
    """What the harness does: the probabilities of the valid answers in mode `direct`, and no more."""
    model, tokenizer = _our_model(spec)

    def work(words: Sequence[str], questions: Sequence[Question]) -> Answers:
        engine = TransformersEngine(model, tokenizer)
        scores = engine.score([direct_prompt(q) for q in questions], [q.candidates() for q in questions])
        return {"scored": {q.id: _best(q, score) for q, score in zip(questions, scores, strict=True)}}

    return work


def generate_loop(spec: dict[str, Any]) -> Callable[[Sequence[str], Sequence[Question]], Answers]:
    """transformers' `generate`, greedy, on batches padded on the left, up to the end of the line; nothing but texts.

    Each word is spelled once, and what was written is used by both modes that need it.
    """
    tokenizer = AutoTokenizer.from_pretrained(spec["model"], padding_side="left")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(spec["model"], dtype=getattr(torch, spec["dtype"])).eval()
    device = hardware.choose_device()
    model.to(device)
    ends = sorted(WrittenText(tokenizer, model.config.vocab_size).end_ids)

    @torch.inference_mode()
    def written(prompts: Sequence[str], limit: int) -> list[str]:
        texts = []
        for start in range(0, len(prompts), spec["batch"]):
            batch = tokenizer(prompts[start : start + spec["batch"]], return_tensors="pt", padding=True).to(device)
            output = model.generate(
                **batch, max_new_tokens=limit, do_sample=False, eos_token_id=ends, pad_token_id=tokenizer.pad_token_id
            )
            new = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
            texts += [text.lstrip("\n").partition("\n")[0].strip() for text in new]
        return texts

    def work(words: Sequence[str], questions: Sequence[Question]) -> Answers:
        every = list(dict.fromkeys([*words, *(question.word for question in questions)]))
        limit = spelling_token_limit(tokenizer, max(map(len, every), default=1))
        spelled = dict(zip(every, written([spelling_prompt(word).text for word in every], limit), strict=True))
        letters = {word: parse_spelling(text) for word, text in spelled.items()}
        direct = written([direct_prompt(q).text for q in questions], ANSWER_TOKENS)
        first = written([spell_first_prompt(q, letters[q.word]).text for q in questions], ANSWER_TOKENS)
        ids = [question.id for question in questions]
        return {
            "spelling": spelled,
            "direct": dict(zip(ids, direct, strict=True)),
            "spell_first": dict(zip(ids, first, strict=True)),
            "computed": {question.id: _computed(question, letters[question.word]) for question in questions},
        }

    return work


def harness(spec: dict[str, Any]) -> Callable[[Sequence[str], Sequence[Question]], Answers]:
    """EleutherAI's lm-evaluation-harness on the exported tasks, with the model loaded once."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    device = hardware.choose_device().type
    model = HFLM(pretrained=spec["model"], dtype=spec["dtype"], batch_size=spec["batch"], device=device)

    def work(words: Sequence[str], questions: Sequence[Question]) -> Answers:
        with tempfile.TemporaryDirectory() as scratch, redirect_stdout(StringIO()):
            found = lm_eval.simple_evaluate(
                model=model,
                tasks=export_lm_eval(questions, Path(scratch)),
                task_manager=TaskManager(include_path=scratch, include_defaults=False),
                log_samples=True,
                bootstrap_iters=0,
            )
        samples = [sample for kind in QUESTION_TYPES for sample in found["samples"].get(task_name(kind), [])]
        by_id = {question.id: question for question in questions}
        scores = {sample["doc"]["id"]: [float(log) for log, _ in sample["filtered_resps"]] for sample in samples}
        return {"scored": {key: _best(by_id[key], values) for key, values in scores.items()}}

    return work


def _our_model(spec: dict[str, Any]) -> tuple[Any, Any]:
    base = resolve_base(spec["base"])
    adapter = Path(spec["adapter"]) if spec["adapter"] else None
    model = load_merged(base, adapter, hardware.choose_device(), getattr(torch, spec["dtype"]))
    return model, load_tokenizer(base)


def _best(question: Question, scores: Sequence[float]) -> str:
    return question.candidates()[max(range(len(scores)), key=scores.__getitem__)]


def _computed(question: Question, letters: str) -> str:
    if question.position is None:
        return str(letters.count(question.letter or ""))
    return letters[question.position - 1] if question.position <= len(letters) else ""
