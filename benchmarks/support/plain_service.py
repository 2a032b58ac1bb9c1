"""The plain stack: FastAPI, and `generate` of transformers, one request at a time. What one writes in an afternoon.

With the settings that serve it best: the number type that the processor multiplies fastest, all cores, the same prompts
as letterwise's mode direct, and no token more than the answer needs.

    MODEL_PATH=folder uvicorn support.plain_service:app --app-dir benchmarks
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from letterwise import hardware
from letterwise.tasks.questions import Question, count_question, direct_prompt, position_question

app = FastAPI()
tokenizer = AutoTokenizer.from_pretrained(os.environ["MODEL_PATH"])
model = AutoModelForCausalLM.from_pretrained(
    os.environ["MODEL_PATH"], dtype=hardware.choose_dtype(torch.device("cpu"))
).eval()
one_at_a_time = threading.Lock()


class Count(BaseModel):
    word: str
    letter: str
    mode: str = "direct"


class Position(BaseModel):
    word: str
    position: int
    mode: str = "direct"


def answer(question: Question) -> dict[str, Any]:
    started = time.perf_counter()
    prompt = tokenizer(direct_prompt(question).text, return_tensors="pt")
    # As many tokens as " 3" or " e" is.
    longest = max(len(tokenizer(f" {candidate}")["input_ids"]) for candidate in question.candidates())
    with one_at_a_time, torch.inference_mode():
        output = model.generate(**prompt, max_new_tokens=longest, do_sample=False, pad_token_id=0)
    text = tokenizer.decode(output[0, prompt["input_ids"].shape[1] :])
    return {"answer": question.parse(text), "processing_time": time.perf_counter() - started}


@app.get("/ready")
def ready() -> dict[str, str]:
    return {"status": "ready"}


@app.post("/api/position_count/letter_count")
def letter_count(body: Count) -> dict[str, Any]:
    return answer(count_question(body.word, body.letter))


@app.post("/api/position_count/letter_position")
def letter_position(body: Position) -> dict[str, Any]:
    return answer(position_question(body.word, body.position))
