"""Licences of base models: their names and texts, and what lies beside all that is made from such weights.

Knows nothing about models.
"""

from __future__ import annotations

import shutil
from importlib.resources import files
from pathlib import Path

LICENSE_FILE = "LICENSE"
NOTICE_FILE = "NOTICE"
APACHE = "apache-2.0"
GEMMA = "gemma"
"""As the Hub spells them."""
NAMES = {
    APACHE: "Apache License 2.0 (SPDX: Apache-2.0)",
    GEMMA: "Gemma Terms of Use (ai.google.dev/gemma/terms)",
}
GEMMA_NOTICE = "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms"
"""What has to accompany Gemma's weights and all that derives from them, in these words (section 3.1 of the terms)."""
_GEMMA_MODIFIED = (
    "The weights beside this notice were modified with letterwise: dequantized to bfloat16 from a quantized file, or\n"
    "fine-tuned, or both. Section 3.2 of the terms (the file LICENSE) restricts their use, for all who receive them."
)


def write_terms(license_id: str, folder: Path) -> bool:
    """Write the licence's text, and the notice that it asks for, into a folder; false where the text is not known."""
    if license_id not in NAMES:
        return False
    (folder / LICENSE_FILE).write_bytes(files(__name__).joinpath(f"{license_id}.txt").read_bytes())
    if license_id == GEMMA:
        (folder / NOTICE_FILE).write_text(f"{GEMMA_NOTICE}\n\n{_GEMMA_MODIFIED}\n", encoding="utf-8")
    return True


def copy_terms(source: Path, folder: Path) -> None:
    """Copy licence and notice from beside weights, where they are, to beside what is made from these weights."""
    for name in (LICENSE_FILE, NOTICE_FILE):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def passed_on(folder: Path) -> str | None:
    """The licence that a notice beside weights passes on to whatever derives from them: Gemma's, or none."""
    notice = folder / NOTICE_FILE
    return GEMMA if notice.is_file() and GEMMA_NOTICE in notice.read_text(encoding="utf-8", errors="replace") else None
