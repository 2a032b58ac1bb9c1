from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from letterwise.config import ControlName, load_config
from letterwise.data_config import ExerciseName
from letterwise.errors import LetterwiseError
from letterwise.sweep_config import SweepConfig, load_sweep

SHIPPED = Path(__file__).parents[1] / "configs" / "sweep.yaml"
STUDY = SHIPPED.parent / "study"
BASES = {"small": "small_base.yaml"}
STUDIES = [path for path in sorted(STUDY.glob("*.yaml")) if path.name not in ("base.yaml", *BASES.values())]
RATE = "training.learning_rate"


def write(folder: Path, **parts: Any) -> Path:
    """A sweep of two trials over the learning rate; keywords replace its parts."""
    whole = {
        "study": {"name": "night", "trials": 2},
        "experiment": {"base_model": "embedded"},
        "space": {RATE: {"low": 1e-4, "high": 1e-2, "log": True}},
        **parts,
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
    return path


def test_the_shipped_sweep_varies_what_it_says() -> None:
    sweep = load_sweep(SHIPPED)
    assert sweep.experiment.base_model == "embedded"
    assert {"lora.rank", "lora.alpha", "lora.target_modules", RATE, "training.batch_size"} <= sweep.space.keys()
    assert {"training.max_steps", "data.use_exponent", "training.words_per_text"} <= sweep.space.keys()
    assert list(sweep.choices("data.tones"))[:2] == [None, '{"plain": 1.0}']  # the template mix


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.name)
def test_each_sweep_of_the_study_varies_the_same_experiment_around_a_plain_one(path: Path) -> None:
    sweep = load_sweep(path)
    assert sweep.experiment == load_config(path.parent / BASES.get(path.stem, "base.yaml"))
    assert {} in sweep.variants.values()
    assert sweep.study.pruner.kind == "none"
    assert sweep.study.name == f"study-{path.stem}"


def test_the_small_sweep_differs_from_the_others_in_its_batches_and_texts_only() -> None:
    base, small = (load_config(STUDY / name).model_dump() for name in ("base.yaml", "small_base.yaml"))
    assert small["training"].pop("batch_size") < base["training"].pop("batch_size")
    assert small["data"].pop("train_examples") < base["data"].pop("train_examples")
    assert {**small, "run_name": "study"} == base


def test_the_experiment_of_the_study_has_every_control_and_asks_no_test_word() -> None:
    base = load_config(STUDY / "base.yaml")
    assert set(base.training.controls) == set(get_args(ControlName))
    assert base.evaluation.split == "validation"


def test_the_study_tries_every_exercise() -> None:
    mixes = [each.get("data.exercises", {}) for each in load_sweep(STUDY / "exercises.yaml").variants.values()]
    assert {name for mix in mixes for name in mix} == set(get_args(ExerciseName))


def test_the_study_varies_every_setting_of_the_template_mix() -> None:
    varied = {path for each in load_sweep(STUDY / "templates.yaml").variants.values() for path in each}
    assert varied == {"data.tones", "data.separators", "data.letter_cases", "data.spelling_first_share"}


def test_an_experiment_is_given_in_place_or_as_the_path_of_a_file_beside(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("run_name: own\nseed: 3\n")
    assert load_sweep(write(tmp_path, experiment="own.yaml")).experiment.seed == 3
    assert load_sweep(write(tmp_path, experiment={"seed": 4})).experiment.seed == 4


def test_a_trial_is_the_experiment_with_its_settings_seed_and_folders(tmp_path: Path) -> None:
    study = {"name": "night", "trials": 2, "seeds_per_trial": 2}
    sweep = load_sweep(
        write(tmp_path, study=study, experiment={"seed": 5, "further_seeds": [6], "tracking": {"wandb": True}})
    )
    assert sweep.seeds == [5, 6]
    trial = sweep.trial_config("trial-001", {RATE: 0.003}, 6)
    assert trial.training.learning_rate == 0.003
    assert (trial.seed, trial.training_seed) == (5, 6)
    assert trial.run_folder == Path("results/night/trials/trial-001-seed-6")
    assert trial.checkpoint_folder == Path("checkpoints/night/trial-001-seed-6")
    assert trial.tracking.group == "night"


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"space": {}}, "either 'space' or 'variants' is wanted"),
        ({"variants": {"a": {}}}, "either 'space' or 'variants' is wanted"),
        ({"space": {"training.learning_rat": [1]}}, "no setting 'training.learning_rat'; did you mean"),
        ({"space": {"lora": [1]}}, "no setting 'lora'"),
        ({"space": {"lora.rank": []}}, "'space.lora.rank.choices': list should have at least 1 item"),
        ({"space": {"lora.rank": [8, 0]}}, "'lora.rank': input should be greater than or equal to 1 (got 0)"),
        ({"space": {"lora.rank": {"low": 1.5, "high": 8}}}, "'lora.rank' takes whole numbers"),
        ({"space": {"lora.rank": {"low": 8}}}, "'space.lora.rank': a list of choices is wanted, or low and high"),
        ({"space": {RATE: {"low": 1, "high": 0.1}}}, "low must not be larger than high"),
        ({"space": {RATE: {"low": 0, "high": 0.1, "log": True}}}, "log wants a low above 0"),
        ({"space": {RATE: {"low": -1, "high": 0.1}}}, "'training.learning_rate': input should be greater than 0"),
        ({"space": {RATE: {"lo": 1, "high": 0.1}}}, "unknown key 'space.training.learning_rate.lo'"),
        ({"space": {"lora.target_modules": {"low": 1, "high": 2}}}, "'lora.target_modules' has no range"),
        ({"space": {"seed": [1, 2]}}, "'seed' may not vary: trials are repeated by study.seeds_per_trial"),
        ({"space": {"words.min_letters": [3]}}, "'words.min_letters' may not vary: trials are compared on the same"),
        ({"space": None, "variants": {"a": {"lora.rank": 0}}}, "input should be greater than or equal to 1"),
        ({"space": None, "variants": {"a": {"evaluation.split": "test"}}}, "'evaluation.split' may not vary"),
        (
            {"space": None, "variants": {"a": {"data.tones": {"plain": 1}, "data.separators": ["dash"]}}},
            "With data.separators as set there is no plain template",
        ),
        ({"space": None, "variants": {"a/b": {}}}, "string should match pattern"),
        ({"space": None, "variants": {"a": {}}}, "'study.trials' is for a sampled space"),
        ({"study": {"name": "night"}}, "'study.trials' is missing"),
        ({"study": {"name": "night", "sampler": "grid"}}, "'grid' wants a list of choices"),
        ({"study": {"name": "night", "trials": 0}}, "'study.trials': input should be greater than or equal to 1"),
        ({"study": {"name": "night", "trials": 1, "metric": "loss"}}, "'study.metric': input should be 'spelling_acc"),
        ({"study": {"trials": 1}}, "'study.name' is missing"),
        ({"experiment": {"base": "x"}}, "unknown key 'experiment.base'"),
        ({"experiment": None}, "'experiment' is missing"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_it(tmp_path: Path, parts: dict[str, Any], problem: str) -> None:
    path = write(tmp_path, **parts)
    with pytest.raises(LetterwiseError) as refused:
        load_sweep(path)
    sentence = str(refused.value)
    assert problem in sentence
    assert sentence.startswith(str(path))
    assert "\n" not in sentence


def test_exercise_mixes_and_extra_words_may_vary(tmp_path: Path) -> None:
    variants = {
        "plain": {},
        "mixed": {"data.exercises": {"spelling": 1, "backwards": 0.5}, "words.extra_training_words": 100},
    }
    sweep = load_sweep(write(tmp_path, study={"name": "night"}, space=None, variants=variants))
    trial = sweep.trial_config("mixed", sweep.variants["mixed"], 0)
    assert trial.data.exercises == {"spelling": 1.0, "backwards": 0.5}
    assert trial.words.extra_training_words == 100
    assert trial.words.model_copy(update={"extra_training_words": 0}) == sweep.experiment.words
    space = {"data.exercises": [{"spelling": 1}, {"spelling": 1, "cloze": 1}]}
    assert list(load_sweep(write(tmp_path, space=space)).choices("data.exercises")) == [
        *('{"spelling": 1.0}', '{"cloze": 1.0, "spelling": 1.0}')
    ]


def test_a_missing_experiment_is_named(tmp_path: Path) -> None:
    with pytest.raises(LetterwiseError, match=r"gone\.yaml does not exist"):
        load_sweep(write(tmp_path, experiment="gone.yaml"))


def test_choices_are_what_the_experiment_takes(tmp_path: Path) -> None:
    space = {RATE: ["1e-3", 0.01], "lora.target_modules": ["auto", ["q_proj"]]}
    sweep = load_sweep(write(tmp_path, space=space))
    assert list(sweep.choices(RATE).values()) == [0.001, 0.01]  # YAML takes 1e-3 for text
    assert list(sweep.choices("lora.target_modules").values()) == ["auto", ["q_proj"]]


def test_a_sweep_survives_its_own_record(tmp_path: Path) -> None:
    sweep = load_sweep(write(tmp_path, space={"lora.rank": [4, 8], RATE: {"low": 0.1, "high": 0.2}}))
    assert SweepConfig.model_validate(sweep.model_dump(mode="json")) == sweep
