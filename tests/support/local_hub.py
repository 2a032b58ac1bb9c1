"""A stand-in for the Hugging Face Hub on this machine, speaking its HTTP protocol as far as `huggingface_hub` uses it.

Repositories are created, written by atomic commits with large files in a storage of its own, listed, and read with
ETags and ranges. A `Fault` makes chosen requests fail as they do in the wild. Knows nothing about letterwise.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import datasets.config
import huggingface_hub.constants as hub_constants
import pytest
import yaml

WRITER, READER = "hf_writer", "hf_reader"
"""Tokens: of the user `me`, who may write to that namespace, and of `reader`, who may not write."""
LARGE = 10 * 1024 * 1024
LARGE_KINDS = (".safetensors", ".parquet", ".png", ".bin", ".gguf")
GIT_ATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n*.parquet filter=lfs diff=lfs merge=lfs -text\n"
LICENSES = {"apache-2.0", "mit", "other", "unknown", "cc-by-sa-4.0", "cc-by-4.0", "gpl-3.0", "gemma"}


@dataclass
class Fault:
    """What happens to requests whose method and path match, `times` times; then they go through again."""

    method: str
    path: str
    """A regular expression, searched for in the path."""
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Instead of answering: close the connection after this many bytes of the body, sent or received."""
    times: int = 1
    late: bool = False
    """Do the work first: the answer alone goes wrong."""


@dataclass
class File:
    """One file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """What git would call the blob; for a large file, its checksum, as the real Hub tells clients."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()


@dataclass
class Repository:
    """Its visibility and its commits, oldest first."""

    kind: str
    name: str
    private: bool
    commits: list[tuple[str, dict[str, File]]] = field(default_factory=list)

    def commit(self, files: dict[str, File]) -> str:
        listing = json.dumps({path: file.sha256 for path, file in sorted(files.items())})
        sha = hashlib.sha1(f"{self.name} {len(self.commits)} {listing}".encode()).hexdigest()
        self.commits.append((sha, files))
        return sha

    @property
    def head(self) -> tuple[str, dict[str, File]]:
        return self.commits[-1]

    def at(self, revision: str) -> tuple[str, dict[str, File]] | None:
        if revision in ("main", "HEAD"):
            return self.head
        return next((commit for commit in self.commits if commit[0].startswith(revision)), None)


class LocalHub:
    """The state of the stand-in: users by token, repositories, the storage of large files, faults, requests seen."""

    def __init__(self) -> None:
        self.tokens = {WRITER: "me", READER: "reader"}
        self.read_only = {"reader"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.storage: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.endpoint = self.storage_endpoint = ""
        self.lock = threading.RLock()

    def files(self, repo_id: str, kind: str = "model") -> dict[str, bytes]:
        """What is in a repository now, without what the Hub itself put there."""
        _, files = self.repositories[kind, repo_id].head
        return {path: file.content for path, file in files.items() if path != ".gitattributes"}

    def change(self, repo_id: str, path: str, content: bytes, kind: str = "model") -> None:
        """Somebody commits another content of one file."""
        repository = self.repositories[kind, repo_id]
        _, files = repository.head
        repository.commit({**files, path: File(content, path.endswith(LARGE_KINDS))})

    def add(self, repo_id: str, folder: Path, kind: str = "model") -> str:
        """Put a folder there as a public repository, without a client."""
        repository = Repository(kind, repo_id, private=False)
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {p.relative_to(folder).as_posix(): File(p.read_bytes(), p.name.endswith(LARGE_KINDS)) for p in paths}
        self.repositories[kind, repo_id] = repository
        return repository.commit(files)

    def fault_for(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times and fault.method == method and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None


@contextmanager
def running(hub: LocalHub | None = None) -> Iterator[LocalHub]:
    """Serve a hub; its `endpoint` is what HF_ENDPOINT has to be."""
    hub = hub or LocalHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.endpoint, hub.storage_endpoint = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@contextmanager
def reachable(hub: LocalHub, cache: Path) -> Iterator[pytest.MonkeyPatch]:
    """What HF_ENDPOINT, HF_TOKEN and HF_HUB_CACHE would set before the libraries are imported; and no waiting."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        patch.setattr(hub_constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(hub_constants, "ENDPOINT", hub.endpoint)
        template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(hub_constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(hub_constants, "HF_TOKEN_PATH", str(cache / "no-login"))
        patch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
        patch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
        patch.setattr(time, "sleep", lambda seconds: None)
        patch.setenv("HF_TOKEN", WRITER)
        yield patch


class RefusedError(Exception):
    def __init__(self, status: int, message: str, code: str = "", body: Any = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body


_REPOSITORY = r"(?P<kind>models|datasets)/(?P<repo>[^/]+/[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", "whoami"),
    ("POST", r"/api/repos/create", "create"),
    ("DELETE", r"/api/repos/delete", "delete"),
    ("POST", r"/api/validate-yaml", "validate"),
    ("POST", rf"/api/{_REPOSITORY}/preupload/(?P<revision>[^/]+)", "preupload"),
    ("POST", rf"/api/{_REPOSITORY}/commit/(?P<revision>[^/]+)", "commit"),
    ("GET", rf"/api/{_REPOSITORY}/refs", "refs"),
    ("GET", rf"/api/{_REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "tree"),
    ("POST", rf"/api/{_REPOSITORY}/paths-info/(?P<revision>[^/]+)", "paths_info"),
    ("GET", rf"/api/{_REPOSITORY}/revision/(?P<revision>[^/]+)", "info"),
    ("GET", rf"/api/{_REPOSITORY}", "info"),
    ("POST", r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "batch"),
    ("POST", r"/storage/verify", "verify"),
    ("PUT", r"/storage/(?P<oid>[0-9a-f]{64})", "store"),
    ("GET", r"/storage/(?P<oid>[0-9a-f]{64})", "fetch"),
    ("GET", r"/(?:(?P<kind>datasets)/)?(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 * 1024  # an answer in one piece, which the client's system acknowledges at once
    disable_nagle_algorithm = True
    hub: LocalHub

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("GET")

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_POST(self) -> None:
        self._answer("POST")

    def do_PUT(self) -> None:
        self._answer("PUT")

    def do_DELETE(self) -> None:
        self._answer("DELETE")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        self.query = parse_qs(parts.query)
        self.url_path = unquote(parts.path)
        self.hub.requests.append((method, self.url_path, dict(self.headers.items())))
        self.fault = self.hub.fault_for(method, self.url_path)
        length = int(self.headers.get("Content-Length") or 0)
        if self.fault and self.fault.cut_after is not None and method in ("PUT", "POST"):
            self.rfile.read(min(self.fault.cut_after, length))
            return self._hang_up()
        self.body = self.rfile.read(length)
        if self.fault and self.fault.cut_after is None and not self.fault.late:
            return self._send(self.fault.status, {"error": "as wanted by the test"}, self.fault.headers)
        for route_method, pattern, name in _ROUTES:
            if route_method == method.replace("HEAD", "GET") and (match := re.fullmatch(pattern, self.url_path)):
                try:
                    with self.hub.lock:
                        answer = getattr(self, name)(**match.groupdict())
                except RefusedError as refused:
                    headers = {"X-Error-Code": refused.code} if refused.code else {}
                    headers["X-Error-Message"] = refused.message
                    return self._send(refused.status, refused.body or {"error": refused.message}, headers)
                if self.fault and self.fault.late:
                    return self._send(self.fault.status, {"error": "as wanted by the test"}, self.fault.headers)
                return self._send_file(answer) if isinstance(answer, tuple) else self._send(200, answer)
        return self._send(404, {"error": f"no route {method} {self.url_path}"})

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _send_file(self, answer: tuple[bytes, dict[str, str]]) -> None:
        content, headers = answer
        if "Location" in headers:
            self.send_response(302)
            content = b""
        elif wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            content = content[first : last + 1]
        else:
            self.send_response(200)
        for name, value in {"Accept-Ranges": "bytes", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.fault and self.fault.cut_after is not None:
            self.wfile.write(content[: self.fault.cut_after])
            return self._hang_up()
        self.wfile.write(content)

    def _hang_up(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)

    # Who may do what

    def _user(self) -> str | None:
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer":
            return None
        if token not in self.hub.tokens:
            raise RefusedError(401, "Invalid credentials in Authorization header")
        return self.hub.tokens[token]

    def _writer(self, namespace: str) -> str:
        user = self._user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        if user in self.hub.read_only or namespace != user:
            raise RefusedError(403, f'You don\'t have the rights to write under the namespace "{namespace}"')
        return user

    def _repository(self, kind: str | None, repo: str) -> Repository:
        found = self.hub.repositories.get(((kind or "models").removesuffix("s"), repo))
        user = self._user()
        if found is None or (found.private and user != repo.split("/")[0]):
            raise RefusedError(404 if user else 401, "Repository not found", "RepoNotFound")
        return found

    def _commit(self, repository: Repository, revision: str) -> tuple[str, dict[str, File]]:
        commit = repository.at(revision)
        if commit is None:
            raise RefusedError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # The routes

    def whoami(self) -> Any:
        user = self._user()
        if user is None:
            raise RefusedError(401, "Invalid username or password.")
        role = "read" if user in self.hub.read_only else "write"
        return {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": role}}}

    def create(self) -> Any:
        wanted = json.loads(self.body)
        kind = wanted.get("type", "model")
        user = self._writer(wanted.get("organization") or str(self._user()))
        name = f"{wanted.get('organization') or user}/{wanted['name']}"
        prefix = "datasets/" if kind == "dataset" else ""
        if (kind, name) in self.hub.repositories:
            raise RefusedError(409, f"You already created this {kind} repo: {name}")
        repository = Repository(kind, name, wanted.get("visibility") == "private")
        repository.commit({".gitattributes": File(GIT_ATTRIBUTES, large=False)})
        self.hub.repositories[kind, name] = repository
        return {"url": f"{self.hub.endpoint}/{prefix}{name}", "name": name, "id": name}

    def delete(self) -> Any:
        wanted = json.loads(self.body)
        namespace = wanted.get("organization") or str(self._user())
        self._writer(namespace)
        self._repository(f"{wanted.get('type', 'model')}s", f"{namespace}/{wanted['name']}")
        del self.hub.repositories[wanted.get("type", "model"), f"{namespace}/{wanted['name']}"]
        return {}

    def validate(self) -> Any:
        wanted = json.loads(self.body)
        errors = metadata_errors(wanted["content"], wanted["repoType"])
        if errors:
            body = {"errors": [{"message": error} for error in errors], "warnings": []}
            raise RefusedError(400, "Invalid metadata", body=body)
        return {"errors": [], "warnings": []}

    def preupload(self, kind: str, repo: str, revision: str) -> Any:
        repository = self._repository(kind, repo)
        self._writer(repo.split("/")[0])
        _, files = self._commit(repository, revision)
        answers = []
        for wanted in json.loads(self.body)["files"]:
            large = wanted["size"] >= LARGE or wanted["path"].endswith(LARGE_KINDS)
            there = files.get(wanted["path"])
            oid = (there.sha256 if there.large else there.oid) if there else None
            mode = "lfs" if large else "regular"
            answers.append({"path": wanted["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    def batch(self, kind: str | None, repo: str) -> Any:
        self._repository(kind or "models", repo)
        self._writer(repo.split("/")[0])
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            answer = {"oid": wanted["oid"], "size": wanted["size"]}
            if wanted["oid"] not in self.hub.storage:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.storage_endpoint}/storage/{wanted['oid']}"},
                    "verify": {"href": f"{self.hub.endpoint}/storage/verify"},
                }
            objects.append(answer)
        return {"transfer": "basic", "objects": objects}

    def store(self, oid: str) -> Any:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusedError(400, "BadDigest")
        self.hub.storage[oid] = self.body
        return {}

    def verify(self) -> Any:
        wanted = json.loads(self.body)
        if len(self.hub.storage.get(wanted["oid"], b"")) != wanted["size"]:
            raise RefusedError(404, "Object not found")
        return {}

    def fetch(self, oid: str) -> Any:
        if "Authorization" in self.headers:
            raise RefusedError(400, "Only one auth mechanism allowed")
        return self.hub.storage[oid], {"ETag": f'"{oid}"'}

    def commit(self, kind: str, repo: str, revision: str) -> Any:
        repository = self._repository(kind, repo)
        self._writer(repo.split("/")[0])
        parent, before = self._commit(repository, revision)
        files = dict(before)
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header" and value.get("parentCommit") not in (None, parent):
                raise RefusedError(412, "A commit has happened since. Please refresh and try again.")
            if entry["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), large=False)
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.storage:
                    raise RefusedError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
                files[value["path"]] = File(self.hub.storage[value["oid"]], large=True)
            elif entry["key"] == "deletedFile" and files.pop(value["path"], None) is None:
                raise RefusedError(404, "A file with this name doesn't exist", "EntryNotFound")
        sha = repository.commit(files)
        prefix = "datasets/" if kind == "datasets" else ""
        return {"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{prefix}{repo}/commit/{sha}"}

    def refs(self, kind: str, repo: str) -> Any:
        sha, _ = self._repository(kind, repo).head
        return {
            "branches": [{"name": "main", "ref": "refs/heads/main", "targetCommit": sha}],
            "tags": [],
            "converts": [],
        }

    def info(self, kind: str, repo: str, revision: str = "main") -> Any:
        repository = self._repository(kind, repo)
        sha, files = self._commit(repository, revision)
        names = [{"rfilename": path} for path in sorted(files)]
        card = files.get("README.md")
        data = _metadata(card.content.decode()) if card else None
        return {
            **{"_id": repo, "id": repo, "modelId": repo, "author": repo.split("/")[0], "sha": sha, "siblings": names},
            **{"private": repository.private, "gated": False, "disabled": False, "downloads": 0, "likes": 0},
            **{"tags": [], "cardData": data, "lastModified": "2026-01-01T00:00:00.000Z"},
            "createdAt": "2026-01-01T00:00:00.000Z",
        }

    def tree(self, kind: str, repo: str, revision: str, path: str | None) -> Any:
        _, files = self._commit(self._repository(kind, repo), revision)
        inside = f"{path}/" if path else ""
        deep = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        entries: dict[str, Any] = {}
        for name, file in sorted(files.items()):
            if name.startswith(inside):
                below = name.removeprefix(inside).split("/")
                for depth in range(1, len(below)) if deep else range(1, min(2, len(below))):
                    folder = inside + "/".join(below[:depth])
                    oid = hashlib.sha1(folder.encode()).hexdigest()
                    entries[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
                if deep or len(below) == 1:
                    entries[name] = _described(name, file)
        if path and not entries:
            raise RefusedError(404, f"{path} does not exist on {revision}", "EntryNotFound")
        return list(entries.values())

    def paths_info(self, kind: str, repo: str, revision: str) -> Any:
        _, files = self._commit(self._repository(kind, repo), revision)
        text = self.body.decode()
        asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        found = []
        for path in [asked] if isinstance(asked, str) else asked:
            if path in files:
                found.append(_described(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                oid = hashlib.sha1(path.encode()).hexdigest()
                found.append({"type": "directory", "oid": oid, "size": 0, "path": path})
        return found

    def resolve(self, kind: str | None, repo: str, revision: str, path: str) -> Any:
        sha, files = self._commit(self._repository(kind or "models", repo), revision)
        if path not in files:
            raise RefusedError(404, "Entry not found", "EntryNotFound")
        file = files[path]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{file.oid}"'}
        if file.large:
            self.hub.storage[file.sha256] = file.content
            headers |= {"X-Linked-Size": str(len(file.content)), "X-Linked-ETag": f'"{file.sha256}"'}
            headers["Location"] = f"{self.hub.storage_endpoint}/storage/{file.sha256}"
        return file.content, headers


def _described(path: str, file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "oid": file.oid, "size": len(file.content), "path": path}
    if file.large:
        entry["lfs"] = {"oid": file.sha256, "size": len(file.content), "pointerSize": 134}
    return entry


def _metadata(card: str) -> Any:
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---", card, re.DOTALL)
    return yaml.safe_load(match[1]) if match else None


def metadata_errors(card: str, kind: str) -> list[str]:
    """What the Hub refuses in a card's metadata: the checks that it documents for model cards and dataset cards."""
    try:
        data = _metadata(card)
    except yaml.YAMLError as error:
        return [f"Invalid YAML: {error}"]
    if not isinstance(data, dict):
        return ["The metadata is not a mapping"]
    errors = []
    license_ = data.get("license")
    if license_ is not None and license_ not in LICENSES:
        errors.append(f'"license" must be one of [{", ".join(sorted(LICENSES))}]')
    if license_ == "other" and not (data.get("license_name") and data.get("license_link")):
        errors.append('"license_name" and "license_link" are wanted where the license is "other"')
    for name in ("base_model", "datasets"):
        values = data.get(name, [])
        for value in [values] if isinstance(values, str) else values:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", str(value)):
                errors.append(f'"{name}" with value "{value}" is not valid. Use a model id from https://hf.co/models.')
    for model in data.get("model-index", []):
        for result in model.get("results", []):
            if not {"task", "dataset", "metrics"} <= result.keys() or "type" not in result["task"]:
                errors.append('"model-index" results need a task with a type, a dataset and metrics')
            elif any(not isinstance(metric.get("value"), int | float) for metric in result["metrics"]):
                errors.append('"model-index" metrics need a value')
            elif not {"type", "name"} <= result["dataset"].keys():
                errors.append('"model-index" datasets need a type and a name')
    if kind == "dataset" and not isinstance(data.get("configs", []), list):
        errors.append('"configs" must be a list')
    return errors
