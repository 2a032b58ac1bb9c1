from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file

from letterwise import models
from letterwise.adapters import load_adapter
from letterwise.config import ExperimentConfig, LoraSection
from letterwise.data.packing import IGNORED
from letterwise.errors import LetterwiseError
from letterwise.evaluation.evaluate import QuickEvaluation
from letterwise.models import BaseModel, load_model, load_tokenizer, resolve_base
from letterwise.results import OTHER_CONTROLS, TrainedRole, TrainingLogEntry, read_training_log
from letterwise.training.step import TrainingStep
from letterwise.training.train import StepFigures, TrainingReport, run_identity, training_rows

Train = Callable[..., TrainingReport]
MakeConfig = Callable[..., ExperimentConfig]


def entries(config: ExperimentConfig, role: str = "finetuned") -> list[TrainingLogEntry]:
    return [entry for entry in read_training_log(config.run_folder / "training_log.jsonl") if entry.model == role]


def losses(config: ExperimentConfig, role: str = "finetuned") -> list[float]:
    return [entry.loss for entry in entries(config, role) if entry.loss is not None]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def equal_weights(first: Path, second: Path) -> bool:
    one, other = weights(first), weights(second)
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def interrupt_after(step: int) -> Callable[[StepFigures], None]:
    def on_step(figures: StepFigures) -> None:
        if figures.step == step:
            raise KeyboardInterrupt

    return on_step


def test_training_lowers_the_loss_and_gives_an_adapter(
    run_training: Train, make_config: MakeConfig, tiny_base: BaseModel
) -> None:
    config = make_config(max_steps=40, evaluate_every=20)
    report = run_training(config)
    found = losses(config)
    assert len(found) == report.steps == 40
    assert sum(found[-5:]) < 0.9 * sum(found[:5])
    assert report.adapter == config.checkpoint_folder / "finetuned" / "best"
    load_adapter(load_model(tiny_base, torch.device("cpu"), torch.float32), report.adapter, tiny_base)


def test_the_loss_is_the_mean_over_learned_tokens_only(
    run_training: Train, make_config: MakeConfig, tiny_base: BaseModel, training_texts: Dataset
) -> None:
    """At the first step the adapter changes nothing: the base model's loss, text by text, is what is logged."""
    tokenizer = load_tokenizer(tiny_base)
    rows = training_rows("finetuned", training_texts, tokenizer, make_config().training, 0)
    config = make_config(max_steps=1, batch_size=len(rows))
    run_training(config)
    model = load_model(tiny_base, torch.device("cpu"), torch.float32)
    logs, learned = torch.tensor(0.0), 0
    for row in range(len(rows)):
        for segment in range(1, rows.segments[row].max() + 1):
            places = rows.segments[row] == segment
            labels = torch.from_numpy(rows.labels[row][places])
            logits = model(torch.from_numpy(rows.input_ids[row][places])[None]).logits[0]
            logs = logs + torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
            learned += int((labels != -100).sum())
    # Dropout acts on the adapter, which is zero at first.
    assert losses(config) == [pytest.approx(float(logs.detach()) / learned, rel=1e-4)]
    assert entries(config)[-1].tokens == rows.tokens


def test_the_same_seed_gives_the_same_run(run_training: Train, make_config: MakeConfig) -> None:
    first, again, other = (
        make_config("first"),
        make_config("again"),
        make_config("other", seed=1),
    )
    reports = [run_training(config) for config in (first, again, other)]
    assert losses(first) == losses(again) != losses(other)
    assert equal_weights(reports[0].adapter, reports[1].adapter)
    assert not equal_weights(reports[0].adapter, reports[2].adapter)


@pytest.mark.parametrize("stop_at", [1, 4, 6])
def test_an_interrupted_run_goes_on_to_the_same_end(run_training: Train, make_config: MakeConfig, stop_at: int) -> None:
    """Interrupted before the first checkpoint, between two, and after the last step but before its checkpoint."""
    straight, resumed = make_config("straight"), make_config("resumed")
    run_training(straight, found=[0.1, 0.2, 0.9, 0.3])
    with pytest.raises(KeyboardInterrupt):
        run_training(resumed, found=[0.1, 0.2, 0.9, 0.3], on_step=interrupt_after(stop_at))
    said: list[str] = []
    # From the checkpoint at step 3 on, the evaluations at steps 4 and 6 are still to come.
    left = [0.1, 0.2, 0.9, 0.3] if stop_at == 1 else [0.9, 0.3]
    report = run_training(resumed, found=left, say=said.append)
    assert said == ([] if stop_at == 1 else ["Going on with finetuned at step 3 of 6."])
    assert losses(resumed) == losses(straight)
    assert [entry.step for entry in entries(resumed)] == [entry.step for entry in entries(straight)]
    assert report.best_step == 4
    for name in ("last", "best"):
        assert equal_weights(
            resumed.checkpoint_folder / "finetuned" / name, straight.checkpoint_folder / "finetuned" / name
        )


def test_a_finished_run_is_not_trained_again(run_one_training: Train, make_config: MakeConfig) -> None:
    config = make_config()
    report = run_one_training(config)
    log = (config.run_folder / "training_log.jsonl").read_text()

    def must_not_be_called(*_: object) -> None:
        raise AssertionError

    assert run_one_training(config, on_step=must_not_be_called, evaluate=must_not_be_called) == report
    assert (config.run_folder / "training_log.jsonl").read_text() == log


def test_a_run_stopped_by_max_steps_can_be_finished(run_one_training: Train, make_config: MakeConfig) -> None:
    straight, short = make_config("straight"), make_config("short")
    run_one_training(straight)
    assert run_one_training(short, max_steps=4).steps == 4
    assert losses(short) == losses(straight)[:4]
    said: list[str] = []
    assert run_one_training(short, max_steps=4, say=said.append).steps == 4
    assert said == []
    assert run_one_training(short).steps == 6
    assert losses(short) == losses(straight)


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"words_per_text": 1}])
def test_a_checkpoint_of_another_configuration_is_not_resumed(
    run_one_training: Train, make_config: MakeConfig, change: dict[str, Any]
) -> None:
    run_one_training(make_config())
    changed, fresh = make_config(**change), make_config("fresh", **change)
    run_one_training(changed, found=[0.9, 0.1])
    run_one_training(fresh, found=[0.9, 0.1])
    assert losses(changed) == losses(fresh)
    assert [entry.step for entry in entries(changed)] == [entry.step for entry in entries(fresh)]
    assert equal_weights(
        changed.checkpoint_folder / "finetuned" / "best", fresh.checkpoint_folder / "finetuned" / "best"
    )


def test_what_does_not_change_the_adapter_does_not_stop_it_from_being_resumed(
    make_config: MakeConfig, tiny_base: BaseModel, training_texts: Dataset
) -> None:
    identity = run_identity(make_config(), tiny_base, training_texts, "finetuned")
    assert run_identity(make_config("other", checkpoint_every=1), tiny_base, training_texts, "finetuned") == identity
    fewer = training_texts.select(range(10))
    assert run_identity(make_config(), tiny_base, fewer, "finetuned") != identity
    assert run_identity(make_config(), tiny_base, training_texts, "control") != identity


def test_accumulated_gradients_are_those_of_the_bigger_batch(run_training: Train, make_config: MakeConfig) -> None:
    whole = make_config("whole", batch_size=6, gradient_accumulation=1)
    pieces = make_config("pieces", batch_size=2, gradient_accumulation=3)
    for config in (whole, pieces):
        run_training(config.model_copy(update={"lora": config.lora.model_copy(update={"dropout": 0.0})}))
    assert losses(pieces) == pytest.approx(losses(whole), rel=1e-4)
    norms = [
        [entry.grad_norm for entry in entries(config) if entry.grad_norm is not None] for config in (whole, pieces)
    ]
    assert norms[0] == pytest.approx(norms[1], rel=1e-3)


def test_the_control_has_the_same_training_on_shuffled_letters(
    run_training: Train, make_config: MakeConfig, tiny_base: BaseModel, training_texts: Dataset
) -> None:
    config = make_config()
    tuned, control = run_training(config), run_training(config, role="control")
    assert (control.steps, control.tokens) == (tuned.steps, tuned.tokens)
    assert control.adapter == config.checkpoint_folder / "control" / "best"
    assert not equal_weights(tuned.adapter, control.adapter)
    assert [entry.learning_rate for entry in entries(config)] == [
        entry.learning_rate for entry in entries(config, "control")
    ]
    tokenizer = load_tokenizer(tiny_base)
    true, shuffled = (
        training_rows(role, training_texts, tokenizer, config.training.model_copy(update={"row_length": 256}), 0)  # type: ignore[arg-type]
        for role in ("finetuned", "control")
    )
    assert len(true) == len(shuffled)
    assert (true.input_ids != shuffled.input_ids).any()
    differing = [
        sorted(tokenizer.decode(one)) == sorted(tokenizer.decode(other))
        for one, other in zip(true.input_ids, shuffled.input_ids, strict=True)
    ]
    assert sum(differing) / len(differing) > 0.5


@pytest.mark.parametrize("role", OTHER_CONTROLS)
def test_every_control_has_as_many_steps_and_its_own_texts(
    run_one_training: Train, make_config: MakeConfig, tiny_llama: Path, training_texts: Dataset, role: TrainedRole
) -> None:
    config = make_config()
    report = run_one_training(config, role=role, found=[0.9, 0.1])
    assert (report.steps, report.best_step) == (6, 6)
    assert report.adapter == config.checkpoint_folder / role / "best"
    assert {entry.model for entry in entries(config, role)} == {role}
    tokenizer = load_tokenizer(resolve_base(str(tiny_llama)))
    texts = {
        each: tokenizer.decode(training_rows(each, training_texts, tokenizer, config.training, 0).input_ids.flatten())
        for each in ("finetuned", role)
    }
    assert texts["finetuned"] != texts[role]
    assert ("How many" in texts[role]) == (role == "ceiling")


def test_which_controls_a_run_trains_does_not_concern_the_tuned_adapter(
    make_config: MakeConfig, tiny_base: BaseModel, training_texts: Dataset
) -> None:
    some, others = make_config(), make_config(controls=["ceiling", "shuffled"])
    assert run_identity(some, tiny_base, training_texts, "finetuned") == run_identity(
        others, tiny_base, training_texts, "finetuned"
    )


@pytest.mark.parametrize("curriculum", ["none", "length"])
def test_a_curriculum_goes_from_short_to_long_words_through_every_row_as_often(
    run_one_training: Train,
    make_config: MakeConfig,
    tiny_llama: Path,
    training_texts: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    curriculum: str,
) -> None:
    taken: list[int] = []
    tensors = TrainingStep.tensors
    monkeypatch.setattr(TrainingStep, "tensors", lambda self, batch: taken.extend(batch) or tensors(self, batch))
    config = make_config(curriculum=curriculum, batch_size=3, words_per_text=1)
    run_one_training(config)
    assert (taken == sorted(taken)) == (curriculum == "length")
    rows = training_rows("finetuned", training_texts, load_tokenizer(resolve_base(str(tiny_llama))), config.training, 0)
    times = Counter(taken)
    assert sum(times.values()) == 18 > len(rows) / 2
    assert max(times.values()) - min(times[row] for row in range(len(rows))) <= 1
    learned = [
        (row != IGNORED).sum() / segments.max() for row, segments in zip(rows.labels, rows.segments, strict=True)
    ]
    rising = sum(earlier < later for earlier, later in combinations(learned, 2)) / (len(rows) * (len(rows) - 1) / 2)
    assert (rising > 0.75) == (curriculum == "length")


@pytest.mark.parametrize("lora", [{"modules_to_save": ["embed_tokens", "lm_head"]}, {"full_finetuning": True}])
def test_modules_trained_whole_are_resumed_and_kept(
    run_one_training: Train, make_config: MakeConfig, tiny_llama: Path, lora: dict[str, Any]
) -> None:
    def config(name: str) -> ExperimentConfig:
        return make_config(name).model_copy(update={"lora": LoraSection(rank=4, alpha=8, **lora)})

    straight, resumed = config("straight"), config("resumed")
    report = run_one_training(straight)
    with pytest.raises(KeyboardInterrupt):
        run_one_training(resumed, on_step=interrupt_after(4))
    again = run_one_training(resumed)
    assert losses(resumed) == losses(straight)
    assert equal_weights(report.adapter, again.adapter)
    base = load_model(resolve_base(str(tiny_llama)), torch.device("cpu"), torch.float32)
    whole = {name: weight for name, weight in weights(report.adapter).items() if "lora" not in name}
    ends = {name: weight for name, weight in whole.items() if name.split(".")[-2] in ("embed_tokens", "lm_head")}
    assert len(ends) == 2
    assert not any(torch.equal(weight, base.get_input_embeddings().weight) for weight in ends.values())
    assert len(whole) == (len(base.state_dict()) if "full_finetuning" in lora else 2)


def test_the_loss_may_fall_on_every_token(make_config: MakeConfig, tiny_llama: Path, training_texts: Dataset) -> None:
    tokenizer = load_tokenizer(resolve_base(str(tiny_llama)))
    letters, everything = (
        training_rows("finetuned", training_texts, tokenizer, make_config(loss_on=what).training, 0)
        for what in ("letters", "all")
    )
    assert (letters.input_ids == everything.input_ids).all()
    texts = sum(int(segments.max()) for segments in everything.segments)
    # Before the opening token of a text there is nothing to predict it from.
    assert (everything.labels != IGNORED).sum() == everything.tokens - texts > (letters.labels != IGNORED).sum()


def test_the_control_keeps_its_last_adapter_and_the_tuned_its_best(
    run_training: Train, make_config: MakeConfig
) -> None:
    config = make_config()
    found = [0.0, 0.2, 0.9, 0.4]
    saved: dict[int, dict[str, torch.Tensor]] = {}

    def evaluate(model: Any) -> QuickEvaluation:
        saved[2 * len(saved)] = {
            name: parameter.detach().clone() for name, parameter in model.named_parameters() if "lora_" in name
        }
        return QuickEvaluation({"spelling_accuracy": found[len(saved) - 1]}, {"spelling_accuracy": 10})

    for role, step in (("finetuned", 4), ("control", 6)):
        saved.clear()
        report = run_training(config, role=role, evaluate=evaluate)
        assert report.best_step == step
        kept = weights(report.adapter)
        assert all(torch.equal(kept[name.replace(".default", "")], saved[step][name]) for name in saved[step])


def test_an_adapter_worse_than_the_base_is_still_kept(run_one_training: Train, make_config: MakeConfig) -> None:
    report = run_one_training(make_config(), found=[0.9, 0.1, 0.3, 0.2])
    assert report.best_step == 4
    assert report.adapter.is_dir()


def test_of_equally_good_adapters_the_last_is_kept(run_one_training: Train, make_config: MakeConfig) -> None:
    assert run_one_training(make_config(), found=[0.0]).best_step == 6


def test_training_stops_early_when_spelling_no_longer_improves(
    run_one_training: Train, make_config: MakeConfig
) -> None:
    config = make_config(max_steps=20, early_stopping_patience=2)
    said: list[str] = []
    report = run_one_training(config, found=[0.0, 0.5, 0.6, 0.6, 0.4, 0.9], say=said.append)
    assert (report.steps, report.best_step) == (8, 6)
    assert said == ["Stopped at step 8: no better spelling for 2 evaluations."]
    assert run_one_training(config, found=[1.0]).steps == 8
    # The control has as much training as the tuned adapter got, however it spells.
    assert run_one_training(config, role="control", max_steps=report.steps, found=[0.0]).steps == 8


def test_what_the_log_says(run_one_training: Train, make_config: MakeConfig) -> None:
    config = make_config()
    tracked: list[tuple[dict[str, float], int]] = []

    class Tracker:
        def log(self, values: dict[str, float], step: int) -> None:
            tracked.append((values, step))

    report = run_one_training(config, found=[0.1, 0.2, 0.3, 0.4], tracker=Tracker())
    log = entries(config)
    steps = [entry for entry in log if entry.loss is not None]
    assert [entry.step for entry in steps] == [1, 2, 3, 4, 5, 6]
    assert [entry.tokens for entry in steps] == sorted(entry.tokens for entry in steps)
    assert steps[-1].tokens == report.tokens
    for entry in steps:
        assert entry.grad_norm is not None
        assert entry.grad_norm > 0
        assert entry.tokens_per_second is not None
        assert entry.tokens_per_second > 0
    evaluations = [entry for entry in log if entry.evaluation is not None]
    assert [entry.step for entry in evaluations] == [0, 2, 4, 6]
    assert [entry.evaluation for entry in evaluations] == [{"spelling_accuracy": x} for x in (0.1, 0.2, 0.3, 0.4)]
    assert evaluations[0].evaluation_n == {"spelling_accuracy": 10}
    assert [step for values, step in tracked if "loss" in values] == [1, 2, 3, 4, 5, 6]
    assert [values for values, step in tracked if step == 0] == [{"validation/spelling_accuracy": 0.1}]


def test_the_schedule_stays_that_of_the_configuration(run_one_training: Train, make_config: MakeConfig) -> None:
    config = make_config(max_steps=6, warmup_steps=2, learning_rate=3e-3)
    run_one_training(config, max_steps=4)
    rates = [entry.learning_rate for entry in entries(config) if entry.learning_rate]
    assert rates[:3] == pytest.approx([1e-3, 2e-3, 3e-3])
    assert rates[3] == pytest.approx(3e-3 * (0.1 + 0.45 * (1 + 2**-0.5)))


def test_a_loss_that_is_no_number_stops_with_the_remedy(
    run_one_training: Train, make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any) -> Any:
        model = load_model(*arguments)
        with torch.no_grad():
            model.get_input_embeddings().weight.fill_(float("nan"))
        return model

    monkeypatch.setattr("letterwise.training.train.load_model", broken)
    assert models.load_model is load_model
    with pytest.raises(LetterwiseError, match="no longer a number at step 1; lower learning_rate"):
        run_one_training(make_config())


def test_a_text_that_fits_no_row_is_refused(run_one_training: Train, make_config: MakeConfig) -> None:
    with pytest.raises(LetterwiseError, match="raise row_length"):
        run_one_training(make_config(row_length=16))
