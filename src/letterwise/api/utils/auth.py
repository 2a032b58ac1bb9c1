"""Who may ask: API keys, several at once, rotated without a restart.

Knows keys only as SHA-256 digests, so that no log, repr or error can show one; knows nothing about routes.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Annotated

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import SecretStr

from letterwise.api.utils.errors import ServiceProblem
from letterwise.errors import LetterwiseError

logger = logging.getLogger(__name__)

# What a header can carry unchanged.
_KEY = re.compile(r"[!-~]+")

_BEARER = HTTPBearer(scheme_name="bearer", description="An API key as bearer token.", auto_error=False)
_HEADER = APIKeyHeader(
    name="X-API-Key", scheme_name="api_key", description="An API key in a header of its own.", auto_error=False
)


class KeyRing:
    """The keys that may ask: those given, and those of a file that may change at any time.

    A file that vanishes or breaks later leaves the last keys in force; a file that is emptied takes its keys away.

    Args:
        keys: keys separated by commas; may be empty.
        file: a file with one key a line; blank lines and lines that start with # are skipped.

    Raises:
        LetterwiseError: the file cannot be read, holds no key and none is given, or a key has characters that a header
            cannot carry.
    """

    def __init__(self, keys: SecretStr, file: Path | None = None) -> None:
        self._given = _digests("API_KEY", keys.get_secret_value().split(","))
        self._file = file
        self._from_file: frozenset[bytes] = frozenset()
        self._version: tuple[int, int, int] | None = None
        self._warned = False
        if file is not None:
            self._read_if_changed(file)
            if not self._given | self._from_file:
                raise LetterwiseError(f"{file} holds no API key; write one a line, or unset API_KEYS_FILE.")

    @property
    def enabled(self) -> bool:
        """Whether a key is asked for; a file that was emptied later does not open the service to everybody."""
        return bool(self._given) or self._file is not None

    def identify(self, presented: str | None) -> str | None:
        """A short id, safe to log, of the key that `presented` is; None when it is none of them.

        Every key is compared, in constant time, so that the time taken tells nothing about them.
        """
        self._refresh()
        if presented is None:
            return None
        digest = hashlib.sha256(presented.encode()).digest()
        matches = [hmac.compare_digest(known, digest) for known in self._given | self._from_file]
        return digest.hex()[:8] if any(matches) else None

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            self._read_if_changed(self._file)
            self._warned = False
        except LetterwiseError as error:
            if not self._warned:
                logger.warning("%s The last keys stay in force.", error)
            self._warned = True

    def _read_if_changed(self, file: Path) -> None:
        try:
            # Follows links: Kubernetes updates a mounted secret by pointing a link at a new folder.
            status = file.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            if version == self._version:
                return
            lines = file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise LetterwiseError(f"The keys in {file} cannot be read ({error.strerror}); see API_KEYS_FILE.") from None
        except UnicodeDecodeError:
            raise LetterwiseError(f"{file} is not a text file; write one API key a line.") from None
        self._from_file = _digests(str(file), (line for line in lines if not line.lstrip().startswith("#")))
        self._version = version


def require_key(ring: KeyRing) -> Callable[..., Awaitable[None]]:
    """A FastAPI dependency that lets only holders of a key pass; the key's id is then in ``request.state.caller``.

    The key comes as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``. Where none is asked for, everybody passes,
    the caller is None and OpenAPI declares no security.
    """

    async def nobody_is_asked(request: Request) -> None:
        request.state.caller = None

    async def key_is_asked(
        request: Request,
        bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
        header: Annotated[str | None, Security(_HEADER)],
    ) -> None:
        caller = ring.identify(bearer.credentials if bearer else header)
        if caller is None:
            raise ServiceProblem(
                401,
                "Unauthorized",
                "Send a valid key as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.caller = caller

    return key_is_asked if ring.enabled else nobody_is_asked


def _digests(source: str, keys: Iterable[str]) -> frozenset[bytes]:
    stripped = [key.strip() for key in keys if key.strip()]
    if not all(map(_KEY.fullmatch, stripped)):
        raise LetterwiseError(f"A key in {source} has a space or a character that is not ASCII; choose another key.")
    return frozenset(hashlib.sha256(key.encode()).digest() for key in stripped)
