"""A finished run, published to a Hub by the real client, verified there, and used by whoever downloads it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import constants
from local_hub import WRITER, Fault, LocalHub, Repository, reachable

from letterwise.licences import write_terms
from letterwise.models import resolve_base
from letterwise.publication import Bundle, read_publication
from letterwise.results import EvaluationResults, read_results

pytestmark = pytest.mark.slow
SOURCE = "git+https://example.org/letterwise@v0.1"
Letterwise = Callable[..., int]
Output = Callable[[], str]


@pytest.fixture(scope="module")
def published(
    hub_server: LocalHub,
    hub_cache: Path,
    finished: Path,
    tmp_path_factory: pytest.TempPathFactory,
    letterwise: Letterwise,
) -> dict[tuple[str, str], Repository]:
    """The repositories that one command makes of the finished run, with the stand-alone model."""
    folder = tmp_path_factory.mktemp("published")
    with reachable(hub_server, hub_cache) as patch:
        patch.chdir(folder)
        names = ("--repo-id", "me/tiny", "--dataset-id", "me/words")
        assert letterwise("publish", "all", "--config", finished / "experiment.yaml", *names, "--merged") == 0
    return {key: hub_server.repositories.pop(key) for key in list(hub_server.repositories) if key[1].startswith("me/")}


@pytest.fixture
def full_hub(hub: LocalHub, published: dict[tuple[str, str], Repository]) -> LocalHub:
    """The Hub with the published repositories, which a test may change."""
    for key, repository in published.items():
        hub.repositories[key] = Repository(**{**vars(repository), "commits": list(repository.commits)})
    return hub


def elsewhere(hub: LocalHub, cache: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a fresh process with an empty cache."""
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    environment |= {"HF_ENDPOINT": hub.endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(cache), "HF_TOKEN": WRITER}
    return subprocess.run(
        [sys.executable, *command], env=environment, cwd=cache, capture_output=True, text=True, check=False
    )


def test_one_command_publishes_and_verifies_model_and_data(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, output: Output
) -> None:
    names = ("--repo-id", "me/tiny", "--dataset-id", "me/words", "--tag", "mine", "--public", "--source-url", SOURCE)

    assert letterwise("publish", "all", "--config", run_copy, *names) == 0

    printed = output()
    assert "✗" not in printed
    assert "✓ the adapter repeats 44 stored predictions" in printed
    assert "model me/tiny: uploaded and verified" in printed
    assert WRITER not in printed
    model, words = hub.repositories["model", "me/tiny"], hub.repositories["dataset", "me/words"]
    assert len(model.commits) == len(words.commits) == 2, "the Hub's own and one of ours"
    assert not model.private
    record = read_publication(run_copy.parent / "results/tiny")
    assert record.model
    assert record.dataset
    assert (record.model.commit, record.dataset.commit) == (model.head[0], words.head[0])
    assert record.model.uploaded_to_hugging_face
    assert record.dataset.uploaded_to_hugging_face
    card = hub.files("me/tiny")["README.md"].decode()
    assert f"[me/words](https://huggingface.co/datasets/me/words), revision `{words.head[0]}`" in card
    assert "- mine\n" in card
    assert f'pip install "letterwise @ {SOURCE}"' in card


def test_what_is_in_the_repository(full_hub: LocalHub, finished: Path, tiny_llama: Path) -> None:
    files = full_hub.files("me/tiny")
    wanted = {"README.md", "LICENSE", "adapter_model.safetensors", "adapter_config.json", "letterwise_base.json"}
    wanted |= {"tokenizer.json", "tokenizer_config.json", "generation_config.json", "calibration.json", "config.yaml"}
    wanted |= {"evaluation_results.json", "transfer.json", "data_audit.json", "training_log.jsonl", "environment.json"}
    wanted |= {"predictions.json", "bundle.json", ".eval_results/letterwise.yaml", "figures/model_bars.png"}
    wanted |= {"merged/config.json", "merged/model.safetensors", "merged/tokenizer.json"}
    assert wanted <= files.keys()
    trained = finished / "checkpoints/tiny/finetuned/best"
    assert files["adapter_model.safetensors"] == (trained / "adapter_model.safetensors").read_bytes()
    config = json.loads(files["adapter_config.json"])
    pinned = full_hub.repositories["model", "tests/tiny-llama"].head[0]
    assert (config["base_model_name_or_path"], config["revision"]) == ("tests/tiny-llama", pinned)
    assert not json.loads(files["generation_config.json"]).get("do_sample")
    entries = yaml.safe_load(files[".eval_results/letterwise.yaml"])
    assert {entry["dataset"]["id"] for entry in entries} == {"me/words"}
    assert {entry["dataset"]["revision"] for entry in entries} == {full_hub.repositories["dataset", "me/words"].head[0]}


def test_a_fresh_process_with_an_empty_cache_reproduces_the_predictions(full_hub: LocalHub, tmp_path: Path) -> None:
    done = elsewhere(full_hub, tmp_path, "-m", "letterwise", "publish", "verify", "me/tiny")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✓ the adapter repeats 44 stored predictions" in done.stdout
    assert "✓ the merged model repeats 44 stored predictions" in done.stdout
    assert "me/tiny: verified" in done.stdout


def test_the_example_of_the_card_prints_what_the_card_says(full_hub: LocalHub, tmp_path: Path) -> None:
    card = full_hub.files("me/tiny")["README.md"].decode()
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    (recorded,) = re.findall(r"this printed:\n\n```text\n(.*?)\n```", card, re.DOTALL)

    done = elsewhere(full_hub, tmp_path, "-c", code)

    assert done.returncode == 0, done.stderr
    assert done.stdout == recorded + "\n"


def test_the_example_with_the_adapter_alone(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, tmp_path: Path
) -> None:
    assert letterwise("publish", "model", "--config", run_copy, "--repo-id", "me/adapter") == 0
    card = hub.files("me/adapter")["README.md"].decode()
    (code,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    assert "PeftModel" in code
    (recorded,) = re.findall(r"this printed:\n\n```text\n(.*?)\n```", card, re.DOTALL)
    cache = tmp_path / "empty"
    cache.mkdir()

    done = elsewhere(hub, cache, "-c", code)

    assert done.stdout == recorded + "\n", done.stderr


def test_load_dataset_from_the_hub_gives_the_built_rows(full_hub: LocalHub, finished: Path, tmp_path: Path) -> None:
    for config in ("spelling", "position_count"):
        loaded = load_dataset("me/words", config, cache_dir=str(tmp_path))
        for split in loaded:
            built = load_dataset(
                "parquet",
                data_files=str(finished / f"results/tiny/data/{config}/{split}.parquet"),
                cache_dir=str(tmp_path),
            )["train"]
            assert loaded[split].to_list() == built.to_list()


# What verification finds


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def refused(letterwise: Letterwise, output: Output, repo_id: str) -> str:
    """What verification of a repository says that is not in order."""
    output()
    assert letterwise("publish", "verify", repo_id) == 1
    printed = output()
    assert f"{repo_id}: not verified" in printed
    return printed


def test_one_digit_in_the_card(full_hub: LocalHub, letterwise: Letterwise, output: Output) -> None:
    card = full_hub.files("me/tiny")["README.md"].decode()
    full_hub.change(
        "me/tiny", "README.md", card.replace("| spelling_accuracy | – | 0", "| spelling_accuracy | – | 9").encode()
    )

    printed = refused(letterwise, output, "me/tiny")

    assert "README.md differs from what was published" in printed
    assert re.search(r"line \d+ of README.md says '.*spelling_accuracy \| – \| 9.*' where the files say", printed)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "merged/model.safetensors"])
def test_one_byte_in_the_weights(full_hub: LocalHub, letterwise: Letterwise, output: Output, name: str) -> None:
    weights = full_hub.files("me/tiny")[name]
    full_hub.change("me/tiny", name, flipped(weights, len(weights) // 2))

    assert f"{name} differs from what was published" in refused(letterwise, output, "me/tiny")


def test_other_weights_with_a_checksum_of_their_own(
    full_hub: LocalHub, letterwise: Letterwise, output: Output, finished: Path
) -> None:
    """The control adapter in the tuned one's place, and a list of checksums made to fit."""
    control = (finished / "checkpoints/tiny/control/best/adapter_model.safetensors").read_bytes()
    bundle = json.loads(full_hub.files("me/tiny")["bundle.json"])
    full_hub.change("me/tiny", "adapter_model.safetensors", control)
    bundle["checksums"]["adapter_model.safetensors"] = sha256(control).hexdigest()
    full_hub.change("me/tiny", "bundle.json", json.dumps(bundle).encode())

    printed = refused(letterwise, output, "me/tiny")

    assert "✓ every file is whole" in printed
    assert "✗ the adapter repeats 44 stored predictions" in printed


def test_one_row_of_the_dataset(full_hub: LocalHub, letterwise: Letterwise, output: Output) -> None:
    name = "position_count/test.parquet"
    table = pq.read_table(pa.BufferReader(full_hub.files("me/words", "dataset")[name]))
    rows = table.to_pylist()
    rows[5]["answer"] = "x"
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), sink)
    full_hub.change("me/words", name, sink.getvalue().to_pybytes(), "dataset")

    printed = refused(letterwise, output, "me/words")

    assert f"{name}, row 5 ({rows[5]['id']}): the answer is 'x'" in printed
    assert f"{name} differs from what was published" in printed


def test_a_missing_file_and_metadata_that_the_hub_refuses(
    full_hub: LocalHub, letterwise: Letterwise, output: Output
) -> None:
    files = full_hub.files("me/tiny")
    full_hub.change("me/tiny", "README.md", files["README.md"].replace(b"license: mit", b"license: my-own"))
    _, now = full_hub.repositories["model", "me/tiny"].head
    full_hub.repositories["model", "me/tiny"].commit({k: v for k, v in now.items() if k != "figures/model_bars.png"})

    printed = refused(letterwise, output, "me/tiny")

    assert "figures/model_bars.png is missing" in printed
    assert "README.md names figures/model_bars.png, which is not there" in printed
    assert '"license" must be one of' in printed


def test_repositories_in_the_metadata_that_are_not_there_and_predictions_that_were_removed(
    full_hub: LocalHub, letterwise: Letterwise, output: Output
) -> None:
    card = full_hub.files("me/tiny")["README.md"]
    for old, new in ((b"base_model: tests/tiny-llama", b"base_model: me/gone"), (b"\n- me/words\n", b"\n- me/x..y\n")):
        assert old in card
        card = card.replace(old, new, 1)
    full_hub.change("me/tiny", "README.md", card)
    _, now = full_hub.repositories["model", "me/tiny"].head
    full_hub.repositories["model", "me/tiny"].commit({k: v for k, v in now.items() if k != "predictions.json"})

    printed = refused(letterwise, output, "me/tiny")

    assert "README.md's metadata has the model me/gone as base_model, which the Hub does not have" in printed
    assert "README.md's metadata has the dataset me/x..y as datasets, which the Hub does not have" in printed
    assert re.search(r"✗ the stored predictions can be repeated\n +predictions.json is missing", printed)


def test_a_download_that_is_cut_goes_on_where_it_was(
    full_hub: LocalHub, letterwise: Letterwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 4096)  # the client goes on after its last whole piece
    large = sha256(full_hub.files("me/tiny")["merged/model.safetensors"]).hexdigest()
    full_hub.faults = [Fault("GET", f"/storage/{large}", cut_after=20_000)]

    assert letterwise("publish", "verify", "me/tiny") == 0

    headers = [header for _, _, request in full_hub.requests for header in request.items()]
    assert [value for name, value in headers if name.lower() == "range"] == ["bytes=16384-"]


def test_a_dataset_that_was_not_published_is_named_and_nothing_says_uploaded(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, output: Output
) -> None:
    names = ("--repo-id", "me/tiny", "--dataset-id", "me/nothing")

    assert letterwise("publish", "model", "--config", run_copy, *names) == 1

    printed = output()
    assert "README.md links to the dataset me/nothing, which the Hub does not have" in printed
    assert "model me/tiny: uploaded, but NOT verified" in printed
    record = read_publication(run_copy.parent / "results/tiny").model
    assert record
    assert not record.uploaded_to_hugging_face
    assert record.verified is None
    assert "me/nothing" in record.problems[0]


# What is made without a Hub, and what is refused


def test_a_dry_run_lists_the_folder_and_uploads_nothing(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, output: Output
) -> None:
    hub.requests.clear()

    assert letterwise("publish", "model", "--config", run_copy, "--repo-id", "me/tiny", "--dry-run") == 0

    printed = output()
    size = (run_copy.parent / "dist/tiny/adapter_model.safetensors").stat().st_size
    assert re.search(rf"adapter_model.safetensors\s+│\s+{size:,}", printed)
    assert "nothing was uploaded" in printed
    assert not [path for method, path, _ in hub.requests if method != "GET" and method != "HEAD"]
    assert ("model", "me/tiny") not in hub.repositories


def test_a_bundle_can_be_made_and_verified_without_a_hub(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, output: Output, tmp_path: Path, tiny_llama: Path
) -> None:
    folder = tmp_path / "elsewhere" / "merged"  # as the folder in it that the card's example names
    assert letterwise("publish", "model", "--config", run_copy, "--to", folder, "--merged") == 0

    assert letterwise("publish", "verify", folder) == 0

    assert read_results(folder / "bundle.json", Bundle).repo_id == "merged"
    assert not (folder / ".eval_results").exists(), "they would have to name a dataset"
    results = read_results(folder / "evaluation_results.json", EvaluationResults)
    assert results.finetuned_model


def test_analyses_of_the_published_adapter_travel_with_it_and_those_of_another_stay(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, tmp_path: Path
) -> None:
    run, folder = tmp_path / "results" / "tiny", tmp_path / "bundle"
    for command in ("probe", "retention"):
        assert letterwise(command, "--config", run_copy) == 0
    assert letterwise("publish", "model", "--config", run_copy, "--to", folder, "--merged") == 0
    analyses = ("item_analysis.json", "retention.json", "probes.json", "figures/probes.png")
    for name in analyses:
        assert (folder / name).read_bytes() == (run / name).read_bytes()
    assert letterwise("publish", "verify", folder) == 0

    for name in ("retention.json", "probes.json"):
        path = run / name
        found = json.loads(path.read_text(encoding="utf-8"))
        if name == "probes.json":
            found["models"]["finetuned"]["revision"] = "another"
        else:
            found["revisions"]["finetuned"] = "another"
        path.write_text(json.dumps(found), encoding="utf-8")
    assert letterwise("publish", "model", "--config", run_copy, "--to", folder, "--merged") == 0
    assert [name for name in analyses if (folder / name).exists()] == ["item_analysis.json"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["publish", "model", "--repo-id", "tiny"], "--repo-id must be a name on the Hub such as"),
        (["publish", "model", "--dataset-id", "me/../x"], "--dataset-id must be a name on the Hub"),
        (["publish", "dataset", "--run-name", "unknown"], "results/unknown holds no run; finish one first"),
        (
            ["publish", "model", "--source-url", "letterwise"],
            "--source-url must be an address for pip, such as git+https",
        ),
        (["publish", "verify", "me/nobody"], "The Hub has no me/nobody, or the token may not see it"),
        (["publish", "verify", "tests/tiny-llama"], "It was not published by letterwise: bundle.json is missing"),
        (["publish", "verify", "me/tiny", "--type", "space"], "--type must be model or dataset, not space"),
    ],
)
def test_a_mistake_is_one_sentence(
    hub: LocalHub, run_copy: Path, letterwise: Letterwise, output: Output, arguments: list[str], sentence: str
) -> None:
    config = [] if "verify" in arguments else ["--config", str(run_copy)]

    assert letterwise(*arguments, *config) == 2

    errors = [line for line in output().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert sentence in errors[0]


def test_an_adapter_that_was_not_evaluated_is_refused(
    hub: LocalHub, run_copy: Path, finished: Path, letterwise: Letterwise, output: Output
) -> None:
    path = run_copy.parent / "results/tiny/evaluation_results.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    results["finetuned_model"]["revision"] = "0" * 16
    path.write_text(json.dumps(results), encoding="utf-8")

    assert letterwise("publish", "all", "--config", run_copy, "--repo-id", "me/a", "--dataset-id", "me/b") == 2

    assert "is not the one that" in output()
    assert not [name for _, name in hub.repositories if name.startswith("me/")], "nothing was uploaded before"


def test_a_ceiling_is_refused_wherever_it_lies(
    hub: LocalHub, run_copy: Path, finished: Path, letterwise: Letterwise, output: Output
) -> None:
    here = run_copy.parent
    shutil.copytree(finished / "checkpoints", here / "checkpoints")
    record = here / "checkpoints/tiny/finetuned/best/letterwise_base.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "role": "ceiling"}), encoding="utf-8")
    for path in (run_copy, here / "results/tiny/config.yaml"):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump(settings | {"checkpoints_folder": str(here / "checkpoints")}), encoding="utf-8")

    assert letterwise("publish", "model", "--config", run_copy, "--repo-id", "me/ceiling") == 2
    assert letterwise("publish", "all", "--config", run_copy, "--repo-id", "me/a", "--dataset-id", "me/b") == 2

    assert "is neither merged nor published" in output()
    assert not [name for _, name in hub.repositories if name.startswith("me/")], "nothing was uploaded before"


def change_base(config: Path, finished: Path, base: Path) -> None:
    """Let a copied run have been on a local folder of the same weights."""
    here = config.parent
    shutil.copytree(finished / "checkpoints", here / "checkpoints")
    identity = {"id": base.name, "revision": resolve_base(str(base)).revision}
    (here / "checkpoints/tiny/finetuned/best/letterwise_base.json").write_text(json.dumps(identity), encoding="utf-8")
    for path in (config, here / "results/tiny/config.yaml"):
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings |= {"base_model": str(base), "checkpoints_folder": str(here / "checkpoints")}
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")


def test_a_base_model_that_nobody_else_has_wants_the_merged_model(
    hub: LocalHub, run_copy: Path, finished: Path, tiny_llama: Path, letterwise: Letterwise, output: Output
) -> None:
    """A run on a local folder: the adapter alone would be of no use to whoever downloads it."""
    here = run_copy.parent
    change_base(run_copy, finished, tiny_llama)
    publish = ("publish", "model", "--config", run_copy, "--to", here / "speller")

    assert letterwise(*publish, "--merged") == 2
    assert "The licence of tiny-llama is not known here" in output()
    assert letterwise(*publish, "--license", "mit") == 2
    assert "is a local folder, which those who download the adapter do not have: add --merged" in output()
    assert letterwise(*publish, "--license", "mit", "--merged") == 0
    assert "base_model:" not in (here / "speller/README.md").read_text(encoding="utf-8")

    assert letterwise("publish", "verify", here / "speller") == 2
    assert "name it with --base-model to check the adapter" in output()
    assert letterwise("publish", "verify", here / "speller", "--base-model", tiny_llama) == 0


def test_whatever_derives_from_a_gemma_is_published_under_its_terms(
    hub: LocalHub, run_copy: Path, finished: Path, tiny_llama: Path, letterwise: Letterwise, output: Output
) -> None:
    """Known by the notice beside its weights, which training and merging copy on."""
    here = run_copy.parent
    base = shutil.copytree(tiny_llama, here / "merged-before")
    write_terms("gemma", base)
    change_base(run_copy, finished, base)
    publish = ("publish", "model", "--config", run_copy, "--to", here / "speller", "--merged")

    assert letterwise(*publish, "--license", "mit") == 2
    assert "which hold for whatever derives from it: leave out --license mit." in output()
    assert letterwise(*publish) == 0

    for folder in (here / "speller", here / "speller/merged"):
        assert (folder / "LICENSE").read_bytes() == (base / "LICENSE").read_bytes()
        assert (folder / "NOTICE").read_bytes() == (base / "NOTICE").read_bytes()
    card = (here / "speller/README.md").read_text(encoding="utf-8")
    assert "\nlicense: gemma\n" in card
    assert "| `NOTICE` | under which terms" in card
    assert letterwise("publish", "verify", here / "speller", "--base-model", base) == 0
