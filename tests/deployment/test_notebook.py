"""The notebook, executed against a Prometheus that has watched real services."""

from __future__ import annotations

import re
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from programs import ROOT

NOTEBOOK = ROOT / "notebooks" / "transfer_learning_analysis.ipynb"


def test_the_notebook_is_kept_without_output() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert [cell for cell in cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)] == []
    assert cells[1].metadata["tags"] == ["parameters"]


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_notebook_says_what_prometheus_knows(watched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", watched.prometheus.url)
    monkeypatch.setenv("HOURS", "0.05")
    monkeypatch.setenv("MODE", "computed")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()

    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 3
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    (shown,) = re.findall(r"^spelling: the canary is at (\d+)% now", said, re.MULTILINE)
    (known,) = watched.prometheus.query("max_over_time(avg(letterwise_spelling_accuracy{source='canary'})[3m:1s])")
    assert int(shown) <= 100 * float(known["value"][1]) + 1
    assert re.search(r"^\d+ probes were answered", said)
    assert re.search(r"^letter_position: .*(spelling over time|too little)", said, re.MULTILINE)
    assert re.search(r"^correlation: phi is [+-]\d", said, re.MULTILINE)
