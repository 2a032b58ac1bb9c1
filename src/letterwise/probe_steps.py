"""The step that probes a run's models for the letters of tokens.

Knows the layout of a run folder; what is asked, and how probes are fitted, is known on the floors below.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from numpy.typing import NDArray

from letterwise import hardware
from letterwise.adapters import ADAPTER_WEIGHTS, check_adapter
from letterwise.data.word_lists import TOKENS_FILE
from letterwise.evaluation.probe_fit import STRENGTHS, probe
from letterwise.evaluation.probe_items import PARTS, ProbeItems, draw_items
from letterwise.evaluation.probe_summary import Answers
from letterwise.evaluation.representations import prefix_token, read_representations, write_representations
from letterwise.evaluation.statistics import Bootstrap
from letterwise.evaluation_steps import load_for_inference, run_adapters
from letterwise.files import atomic_path, fingerprint, sha256_file
from letterwise.probe_results import (
    EMBEDDING,
    PROBES_FIGURE,
    PROBES_FILE,
    ProbeBaseline,
    ProbedModel,
    ProbeResults,
)
from letterwise.reporting.probe_figure import plot_probes
from letterwise.results import MODEL_ROLES, ModelRole, write_results
from letterwise.run_folder import Run, Step, checksums_of
from letterwise.words.vocabulary import read_tokens

_PIECES = ".probes"
_BASELINES = {
    "majority_class": "always the most frequent answer",
    "shuffled_tokens": "probes on the base model's embeddings, each given to another token",
    "appearance": "probes on a token's number of letters, letter case and leading space",
}


def probe_step(run: Run) -> Step:
    """Probe base model, tuned adapter and, where it was trained, the control; draw the figure.

    An interrupted one goes on with the models that were not finished.

    Raises:
        LetterwiseError: the run has no tuned adapter, or one that is of another base.
    """
    config, folder = run.config, run.folder
    adapters = {role: adapter for role, adapter in run_adapters(run).items() if role in MODEL_ROLES}
    for adapter in filter(None, adapters.values()):
        check_adapter(adapter, run.base)
    checksums = {
        role: sha256_file(adapter / ADAPTER_WEIGHTS) if adapter else run.base.revision
        for role, adapter in adapters.items()
    }
    tokens_file = run.words_folder / TOKENS_FILE
    asked = [checksums_of(folder, [tokens_file]), config.seed, run.base.revision]

    def work() -> None:
        items = draw_items(read_tokens(tokens_file), config.seed)
        device = hardware.choose_device()
        run.terminal.say(f"  {len(items.token_ids):,} tokens, probes on {hardware.describe(device, torch.float32)}")
        right: dict[str, NDArray[np.bool_]] = {}
        for role, adapter in adapters.items():
            piece = folder / _PIECES / f"{role}-{fingerprint([checksums[role], asked])}.npy"
            if not piece.is_file():
                answered = _probe_model(run, role, adapter, items, device)
                with atomic_path(piece) as temporary:
                    np.save(temporary, answered)
            right[role] = np.load(piece)
        results = _results(run, items, right, checksums, device)
        write_results(folder / PROBES_FILE, results)
        plot_probes(results, folder / PROBES_FIGURE)
        shutil.rmtree(folder / _PIECES, ignore_errors=True)

    inputs = [checksums, asked, config.evaluation.bootstrap_samples, STRENGTHS]
    outputs = [folder / PROBES_FILE, folder / PROBES_FIGURE]
    return Step("probe", inputs, outputs, work, measures=False)


def _probe_model(
    run: Run, role: ModelRole, adapter: Path | None, items: ProbeItems, device: torch.device
) -> NDArray[np.bool_]:
    """Whether the probes' answers are right, shape (places, test items).

    The base model has one row more: its embeddings, each given to another token.
    """
    tokens: Sequence[int] = items.token_ids.tolist()
    scratch = run.folder / _PIECES / "representations"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    model = load_for_inference(run.base, adapter)
    with run.terminal.track(f"reading tokens, {role}", len(tokens)) as advance:
        prefix = prefix_token(run.tokenizer)
        paths = write_representations(model, prefix, tokens, scratch, lambda finished: advance(finished, ""))
    del model
    hardware.give_memory_back()
    rows = []
    with run.terminal.track(f"fitting probes, {role}", len(paths)) as advance:
        for place, path in paths.items():
            rows.append(probe(read_representations(path, len(tokens)), items, device))
            advance(1, place)
    if role == "base":
        embeddings = read_representations(paths[EMBEDDING], len(tokens))
        rows.append(probe(np.random.default_rng(run.config.seed).permutation(embeddings), items, device))
    shutil.rmtree(scratch, ignore_errors=True)
    return np.stack(rows)


def _results(
    run: Run,
    items: ProbeItems,
    answered: dict[str, NDArray[np.bool_]],
    checksums: dict[ModelRole, str],
    device: torch.device,
) -> ProbeResults:
    """What `_probe_model` gave for each model, and the baselines, as accuracies and differences."""
    baselines = {
        "majority_class": items.majority_is_right()[None],
        "shuffled_tokens": answered["base"][-1:],
        "appearance": probe(items.appearance, items, device)[None],
    }
    right = answered | {"base": answered["base"][:-1]} | baselines
    places = [EMBEDDING, *(f"layer_{number}" for number in range(1, len(right["base"])))]
    bootstrap = Bootstrap(run.config.evaluation.bootstrap_samples, run.config.seed)
    answers = Answers(items.test_items(), right, bootstrap)
    return ProbeResults(
        seed=run.config.seed,
        prefix=run.tokenizer.decode([prefix_token(run.tokenizer)]),
        tokens={name: int((items.parts == part).sum()) for part, name in enumerate(PARTS)},
        families={name: len(set(items.families[items.parts == part])) for part, name in enumerate(PARTS)},
        letters_left_out=[letter for letter in ascii_lowercase if letter not in items.letters],
        computed_on=hardware.describe(device, hardware.choose_dtype(device)),
        models={
            role: ProbedModel(
                id=run.base.id if role == "base" else f"{run.base.id} + {role} adapter",
                revision=checksum[:16],
                places=answers.places(role, places),
            )
            for role, checksum in checksums.items()
        },
        baselines={
            name: ProbeBaseline(accuracy=answers.accuracy(name), description=description)
            for name, description in _BASELINES.items()
        },
        differences=answers.differences(places),
    )
