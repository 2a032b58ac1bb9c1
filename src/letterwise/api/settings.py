"""Settings of the service, read from environment variables.

Knows names, defaults and limits; knows nothing about how a setting is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from letterwise.errors import LetterwiseError
from letterwise.results import TASKS, Task


class ServiceSettings(BaseSettings):
    """Every setting; each is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, use_attribute_docstrings=True, validate_default=True
    )

    model_path: str = Field("embedded", min_length=1)
    """Folder of an adapter or a stand-alone model, a Hub id (`owner/name@revision`), or a bare base model, `embedded`
    or `gemma`."""
    base_model: str = ""
    """Base model of the adapter (folder or Hub id), where the adapter does not say where to find it."""
    compare_base: bool = False
    """Also load the base model without the adapter, for requests with `"model": "base"` and the playground."""
    task_type: Literal["spelling", "position_count", "all"] = "all"
    """Which routes there are."""
    enable_gpu: bool = False
    """Run on the GPU; the start fails where there is none."""
    engine: Literal["auto", "openvino", "transformers", "vllm"] = "auto"
    """What runs the model: OpenVINO on the processor, PyTorch anywhere, or vLLM on an NVIDIA GPU; `auto` takes OpenVINO
    without a GPU and PyTorch with one."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all."""
    port: int = Field(8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""

    api_key: SecretStr = SecretStr("")
    """Keys that may ask, separated by commas; empty: no key is asked for."""
    api_keys_file: Path | None = None
    """File with one key a line, read anew when it changes, so that keys rotate without a restart; adds to API_KEY."""
    rate_limit: str = "600/minute"
    """Requests for each key or, without keys, address (syntax of the package `limits`); `off` for none."""
    rate_limit_storage: str = "memory://"
    """Where requests are counted: memory, or `redis://host:6379` shared by several replicas."""
    trust_proxy_headers: bool = False
    """Take the client's address from X-Forwarded-For; only behind a proxy that sets it."""
    cors_origins: str = ""
    """Origins that a browser may ask from, separated by commas; empty: none."""
    max_body_bytes: int = Field(65_536, ge=256)
    """Largest request body, in bytes."""
    request_timeout_seconds: float = Field(10.0, gt=0)
    """A request that takes longer is answered with 503."""

    max_batch_size: int = Field(32, ge=1, le=1024)
    """Prompts in one forward pass, and items in one batch request."""
    max_wait_ms: float = Field(2.0, ge=0, le=1000)
    """How long an idle model waits for more requests to join the first one, in milliseconds."""
    queue_size: int = Field(40, ge=1)
    """Items that may wait for the model; requests that bring more are refused with 503."""
    max_queue_ms: float = Field(3000.0, gt=0)
    """A request that would wait longer than this for the model is refused with 503, in milliseconds."""
    drain_seconds: float = Field(20.0, ge=0)
    """How long requests in flight may take to finish after SIGTERM."""

    canary_interval_seconds: float = Field(30.0, ge=0)
    """Time between two probes of the live accuracy; 0: none."""
    canary_window: int = Field(200, ge=10)
    """Last probes of each kind that the live accuracy is taken over."""

    @field_validator("log_level", "task_type", "engine", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @property
    def tasks(self) -> tuple[Task, ...]:
        """The tasks whose routes there are."""
        return TASKS if self.task_type == "all" else (self.task_type,)

    @property
    def origins(self) -> list[str]:
        """`cors_origins`, taken apart."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]


def load_settings(**given: Any) -> ServiceSettings:
    """Read the environment; what is given wins over it.

    Raises:
        LetterwiseError: a variable has a value that is not allowed; its value is not repeated, as it may be secret.
    """
    try:
        return ServiceSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        raise LetterwiseError(f"The environment variable {str(first['loc'][0]).upper()}: {first['msg']}.") from None
