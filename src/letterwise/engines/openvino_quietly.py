"""OpenVINO without its telemetry: as it comes, importing it reports that over the network and keeps an id of the user.

Its own stand-in takes over where the package `openvino_telemetry` cannot be imported. Knows nothing about models.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # importing it now fails

import openvino  # noqa: E402

__all__ = ["openvino"]
