"""The image, built without a Docker engine and run from its root file system: `make image-test`.

Takes some minutes and gigabytes, and root on Linux with buildah and debootstrap, so it runs only where IMAGE_TEST is
set, and fails there if it cannot.
The base image is made once, by debootstrap. Packages come from wherever this machine's pip has them.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from live_monitoring import free_port, process, wait_for
from programs import DEPLOYMENT, ROOT, program, run

import letterwise

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not os.environ.get("IMAGE_TEST"), reason="builds an image: make image-test"),
]

STORE = ROOT / "build" / "image"
BASE, IMAGE = "localhost/letterwise-base", "localhost/letterwise:cpu"
SUITE = "bookworm"
PACKAGES = "python3,python3-venv,ca-certificates"
USER = 10001

# In mount and process namespaces of its own: the root read-only, and over it what a container engine would mount.
IN_CONTAINER = """
root=$1 model=$2; shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o uid=10001,gid=10001 tmpfs "$root/cache"
mount --bind -o ro "$model" "$root/model"
exec chroot --userspec=10001:10001 "$root" env -i "$@"
"""


def buildah(*arguments: object) -> str:
    program("buildah", "Debian: buildah")
    where = ["--root", STORE / "storage", "--runroot", STORE / "run", "--storage-driver", "overlay"]
    return run("buildah", *where, *arguments, timeout=1500).strip()


def pip_configuration() -> tuple[str, list[Path]]:
    """This machine's, as one file, and the local files that it names."""
    said = run(sys.executable, "-m", "pip", "config", "list")
    settings = dict(re.findall(r"^(?:global|:env:)\.([\w-]+)='(.*)'$", said, re.MULTILINE))
    words = {word for value in settings.values() for word in value.split()}
    # An index refers to files beside it.
    named = {Path(word.removeprefix("file://")).parent if word.startswith("file://") else Path(word) for word in words}
    lines = [f"{name} = {value}" for name, value in settings.items() if name != "no-cache-dir"]
    return "\n".join(["[global]", *lines, ""]), sorted(path for path in named if path.is_absolute() and path.exists())


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Builds the image; gives its configuration."""
    if os.geteuid():
        pytest.fail("building in a chroot needs root")
    if BASE not in buildah("images", "--format", "{{.Name}}"):
        root = tmp_path_factory.mktemp("base") / "root"
        bootstrap = program("debootstrap", "Debian: debootstrap")
        run(bootstrap, "--variant=minbase", f"--include={PACKAGES}", SUITE, root, timeout=900)
        container = buildah("from", "scratch")
        buildah("add", "--quiet", container, root, "/")
        buildah("commit", "--quiet", "--rm", container, BASE)
    text, paths = pip_configuration()
    configuration = tmp_path_factory.mktemp("pip") / "pip.conf"
    configuration.write_text(text, encoding="utf-8")
    options = ["--isolation", "chroot", "--pull=never", "--layers=false", "--format", "docker", "--target", "cpu"]
    options += ["--build-arg", f"BASE_IMAGE={BASE}", "--build-arg", "TORCH_INDEX="]
    options += ["--secret", f"id=pip_conf,src={configuration}"]
    options += [option for path in paths for option in ("--volume", f"{path}:{path}:ro")]
    buildah("bud", *options, "--file", DEPLOYMENT / "Dockerfile", "--tag", IMAGE, ROOT)
    found: dict[str, Any] = json.loads(buildah("inspect", "--type", "image", IMAGE))["Docker"]["config"]
    return found


@pytest.fixture(scope="module")
def root(image: dict[str, Any]) -> Iterator[Path]:
    """The image's root file system."""
    container = buildah("from", "--pull=never", IMAGE)
    yield Path(buildah("mount", container))
    buildah("umount", container)
    buildah("rm", container)


def in_container(root: Path, model: Path, image: dict[str, Any], *command: object, **environment: object) -> list[Any]:
    """The command line that runs a command as a container engine would."""
    variables = [*image["Env"], *(f"{name}={value}" for name, value in environment.items())]
    return ["unshare", "--mount", "sh", "-euc", IN_CONTAINER, "sh", root, model, *variables, *command]


def test_the_image_says_who_runs_what_and_how_to_ask_whether_it_lives(image: dict[str, Any]) -> None:
    assert image["User"] == f"{USER}:{USER}"
    assert image["Entrypoint"] + image["Cmd"] == ["letterwise", "serve"]
    assert image["StopSignal"] == "SIGTERM"
    assert image["Healthcheck"]["Test"][0] == "CMD"
    labels = image["Labels"]
    assert labels["org.opencontainers.image.version"] == letterwise.__version__
    assert {f"org.opencontainers.image.{name}" for name in ("title", "licenses", "revision")} <= labels.keys()


def test_the_image_holds_no_model_no_secret_and_nothing_to_build_with(root: Path) -> None:
    weights = [path for kind in ("*.safetensors", "*.gguf", "*.bin") for path in (root / "opt").rglob(kind)]
    assert [path for path in weights if path.stat().st_size > 1_000_000] == []
    assert list((root / "model").iterdir()) == list((root / "cache").iterdir()) == []
    assert not any((root / path).exists() for path in ("usr/bin/gcc", "usr/bin/make", "build", "root/.cache"))
    configuration = root / "etc" / "pip.conf"
    assert not configuration.exists() or not configuration.read_text(encoding="utf-8")


def test_only_the_cache_and_the_models_place_belong_to_the_user(root: Path) -> None:
    owned = run("find", root, "-xdev", "-uid", USER).split()
    assert sorted(Path(path).name for path in owned) == ["cache", "model"]
    writable = run("find", root, "-xdev", "-type", "f", "-perm", "-o+w").split()
    assert writable == []


@pytest.fixture(scope="module")
def model(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that others than its maker may read: safetensors are written for their owner alone."""
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(tiny_llama, folder)
    run("chmod", "-R", "a+rX", folder)
    return folder


def test_the_service_answers_as_the_user_on_a_read_only_root(
    root: Path, image: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    port = free_port()
    command = in_container(
        root, model, image, *image["Entrypoint"], *image["Cmd"], PORT=port, HOST="127.0.0.1", OMP_NUM_THREADS=1
    )
    log = tmp_path / "service.log"
    with process(*command, log=log) as service, httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        try:
            wait_for(lambda: client.get("/ready").status_code == 200, "service", 120)
        except AssertionError:
            pytest.fail(log.read_text(encoding="utf-8")[-3000:])
        body = {"word": "strawberry", "letter": "r", "verify": True}
        answer = client.post("/api/position_count/letter_count", json=body)
        assert answer.status_code == 200
        assert answer.json()["expected"] == 3

        status = Path(f"/proc/{service.pid}/status").read_text(encoding="utf-8")
        assert re.findall(r"^[UG]id:\t(.+)$", status, re.MULTILINE) == ["\t".join([str(USER)] * 4)] * 2
        check = in_container(root, model, image, *image["Healthcheck"]["Test"][1:], PORT=port)
        run(*check)
        run(*in_container(root, model, image, *image["Healthcheck"]["Test"][1:], PORT=free_port()), exit_code=1)
        run(*in_container(root, model, image, "touch", "/opt/letterwise/written"), exit_code=1)

        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert any(line["component"] == "access" for line in lines)


def test_without_a_model_it_ends_with_one_sentence(root: Path, image: dict[str, Any], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    empty.chmod(0o755)
    done = subprocess.run(
        [str(part) for part in in_container(root, empty, image, *image["Entrypoint"], *image["Cmd"])],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "MODEL_PATH: /model is neither an adapter" in done.stderr
