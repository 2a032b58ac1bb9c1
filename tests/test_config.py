from __future__ import annotations

from pathlib import Path

import pytest

from letterwise.config import ExperimentConfig, TrainingConfig, dump_config, load_config, override, read_settings
from letterwise.errors import LetterwiseError

CONFIGS = [
    path for path in sorted(Path(__file__).parents[1].glob("configs/*.yaml")) if "study" not in read_settings(path)
]


def load(folder: Path, text: str) -> ExperimentConfig:
    path = folder / "experiment.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path)


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LetterwiseError) as refused:
        load(folder, text)
    sentence = str(refused.value)
    assert str(folder / "experiment.yaml") in sentence
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_what_is_not_set_has_its_default(tmp_path: Path) -> None:
    config = load(tmp_path, "run_name: first\ntraining:\n  learning_rate: 5e-4\n")
    assert config.base_model == "embedded"
    assert config.training == TrainingConfig(learning_rate=0.0005)
    assert config.run_folder == Path("results/first")
    assert config.checkpoint_folder == Path("checkpoints/first")


def test_a_training_has_the_experiments_seed_unless_it_has_its_own(tmp_path: Path) -> None:
    assert load(tmp_path, "run_name: x\nseed: 3\n").training_seed == 3
    own = load(tmp_path, "run_name: x\nseed: 3\ntraining: {seed: 0}\n")
    assert (own.seed, own.training_seed) == (3, 0)


def test_a_further_seed_varies_the_training_alone(tmp_path: Path) -> None:
    config = load(tmp_path, "run_name: x\nseed: 3\nfurther_seeds: [4, 0]\ntraining: {max_steps: 7}\n")
    again = config.with_seed(4)
    assert (again.run_name, again.seed, again.training_seed, again.further_seeds) == ("x-seed-4", 3, 4, [])
    assert again.training == TrainingConfig(max_steps=7, seed=4)
    assert again.words == config.words
    assert again.data == config.data
    fewer = {"controls_of_further_seeds": ["shuffled"], "training": {"controls": ["shuffled", "ceiling"]}}
    again = override(config, fewer).with_seed(4)
    assert (again.training.controls, again.controls_of_further_seeds) == (["shuffled"], None)
    with pytest.raises(LetterwiseError, match=r"^further_seeds must differ from each other"):
        override(config, {"seed": 0})


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("run_name: x\ntrainin: {}", "unknown key 'trainin'"),
        ("run_name: x\ntraining: {max_step: 3}", "unknown key 'training.max_step'"),
        ("run_name: x\ntraining: {max_steps: -1}", "'training.max_steps': input should be greater than or equal to 1"),
        ("run_name: x\ntraining: {max_steps: many}", "'training.max_steps': input should be a valid integer"),
        ("run_name: x\ntraining: {learning_rate: .inf}", "'training.learning_rate': input should be a finite number"),
        ("run_name: x\ntraining: {learning_rate: .nan}", "'training.learning_rate': input should be"),
        ("run_name: x\ntraining: {dtype: float8}", "'training.dtype': input should be 'auto', 'bfloat16' or 'float32'"),
        ("run_name: x\ntraining: {use_unsloth: true, compile: true}", "use_unsloth brings kernels of its own"),
        (
            "run_name: x\nevaluation: {engine: openvino}",
            "'evaluation.engine': input should be 'transformers' or 'vllm'",
        ),
        ("run_name: x\nfurther_seeds: [0]", "further_seeds must differ"),
        ("run_name: x\ncontrols_of_further_seeds: [ceiling, ceiling]", "each control is wanted once"),
        ("run_name: x\nfurther_seeds: [1, 1]", "further_seeds must differ"),
        (f"run_name: {'x' * 75}\nfurther_seeds: [1]", "run_name with '-seed-' and each of further_seeds may have 80"),
        ("run_name: x\nevaluation: {modes: []}", "'evaluation.modes': list should have at least 1 item"),
        ("run_name: x\nevaluation: {modes: [guess]}", "'evaluation.modes.0': input should be 'direct', 'spell_first'"),
        ("run_name: x\ndata: {exercises: {}}", "'data.exercises': dictionary should have at least 1 item"),
        ("run_name: x\ndata: {exercises: {spelling: 0}}", "'data.exercises.spelling': input should be greater than 0"),
        (
            "run_name: x\ndata: {exercises: {counting: 1}}",
            "'data.exercises.counting': input should be 'spelling'",
        ),
        ("run_name: x\ndata: {tones: {}}", "'data.tones': dictionary should have at least 1 item"),
        ("run_name: x\ndata: {tones: {plain: 0}}", "'data.tones.plain': input should be greater than 0"),
        ("run_name: x\ndata: {tones: {angry: 1}}", "'data.tones.angry': input should be 'plain', 'narrative'"),
        ("run_name: x\ndata: {separators: [tab]}", "'data.separators.0': input should be 'space', 'comma'"),
        ("run_name: x\ndata: {separators: [space, space]}", "'data.separators': each is listed once"),
        ("run_name: x\ndata: {letter_cases: []}", "'data.letter_cases': list should have at least 1 item"),
        ("run_name: x\ndata: {spelling_first_share: 1.5}", "'data.spelling_first_share': input should be less than"),
        (
            "run_name: x\ndata: {exercises: {backwards: 1}, spelling_first_share: 0.5}",
            "'data': spelling_first_share is about plain spelling; give that a weight in exercises, or leave it out",
        ),
        (
            "run_name: x\nlora: {modules_to_save: [wte]}\ntraining: {use_unsloth: true}",
            "training.use_unsloth trains no modules whole",
        ),
        (
            "run_name: x\nlora: {modules_to_save: [wte]}\nevaluation: {engine: vllm}",
            "evaluation.engine vllm loads no modules trained whole",
        ),
        (
            "run_name: x\nlora: {full_finetuning: true, target_modules: [q_proj]}",
            "lora.full_finetuning trains every module",
        ),
        (
            "run_name: x\nlora: {full_finetuning: true}\ntraining: {load_in_4bit: true}",
            "training.load_in_4bit freezes the base",
        ),
        (
            "run_name: x\nlora: {full_finetuning: true}\ntraining: {use_unsloth: true}",
            "trains no modules whole; leave out lora.full_finetuning",
        ),
        *[
            (f"run_name: x\ntraining: {{sharding: full}}\n{setting}", "training.sharding goes with none of")
            for setting in ("lora: {full_finetuning: true}", "evaluation: {engine: vllm}")
        ],
        *[
            (f"run_name: x\ntraining: {{sharding: full, {setting}: true}}", "training.sharding goes with none of")
            for setting in ("load_in_4bit", "use_unsloth", "compile")
        ],
        ("run_name: x\ntraining: {controls: [shuffled, shuffled]}", "'training.controls': each control is wanted once"),
        (
            "run_name: x\ntraining: {controls: [none]}",
            "'training.controls.0': input should be 'shuffled'",
        ),
        ("run_name: x\ntraining: {curriculum: frequency}", "'training.curriculum': input should be 'none' or 'length'"),
        ("run_name: x\nlora: {target_modules: 3}", "'lora.target_modules': input should be"),
        ("run_name: x\nwords: {min_letters: 9, max_letters: 5}", "'words': max_letters must not be smaller than"),
        ("run_name: x\nseed: -3", "'seed': input should be greater than or equal to 0"),
        ("run_name: ../x", "'run_name': string should match pattern"),
        ("run_name: 2026", "'run_name': input should be a valid string"),
        ("seed: 1", "'run_name' is missing"),
        ("run_name: x\nwords: 5", "'words': input should be"),
        ("run_name: [x", "is not valid YAML"),
        ("", "must hold settings as 'key: value' lines"),
        ("- a\n- b", "must hold settings as 'key: value' lines"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_file_and_the_key(tmp_path: Path, text: str, problem: str) -> None:
    assert problem in refusal(tmp_path, text)


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    sentence = refusal(tmp_path, "run_name: x\nsed: 1\ntraining: {batch_size: 0}")
    assert "unknown key 'sed'" in sentence
    assert "'training.batch_size'" in sentence


def test_a_missing_or_unreadable_file(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"missing.yaml does not exist"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(LetterwiseError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("run_name: é".encode("latin-1"))
    with pytest.raises(LetterwiseError, match="cannot be read"):
        load_config(tmp_path / "latin.yaml")


def test_a_resolved_configuration_is_read_back_unchanged(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "run_name: x\nbase_model: openai-community/gpt2\nresults_folder: /elsewhere/é\n"
        "lora: {target_modules: [q_proj, v_proj]}\ntraining: {early_stopping_patience: 3, learning_rate: 1.0e-7}\n"
        "evaluation: {limit: 5, modes: [computed]}\ntracking: {group: null}\n",
    )
    assert load(tmp_path, dump_config(config)) == config


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_each_configuration_of_the_repository_is_loaded(path: Path) -> None:
    load_config(path)
