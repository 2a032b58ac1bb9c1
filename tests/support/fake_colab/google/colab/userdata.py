"""Secrets as Colab keeps them; a test puts them into COLAB_SECRET_NAME, and 'denied' is one without notebook access."""

from __future__ import annotations

import os


class SecretNotFoundError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(f"Secret {key} does not exist.")


class NotebookAccessError(Exception):
    def __init__(self, key: str) -> None:
        super().__init__(f"Notebook does not have access to secret {key}")


def get(key: str) -> str:
    secret = os.environ.get(f"COLAB_SECRET_{key}")
    if secret is None:
        raise SecretNotFoundError(key)
    if secret == "denied":
        raise NotebookAccessError(key)
    return secret
