"""Copy a sweep's results to docs/results/study/, from which `make docs` generates the study's tables.

    python docs/update_study.py results/study-exercises

A sweep need not be finished: then its journal is recorded as well, compressed, and with that put back where
`letterwise sweep` keeps it, the same command goes on with the trials that are left.

    python docs/update_study.py --continue results/study-amount

Knows the layout of a sweep's folder; knows nothing about what the documents make of it.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from pathlib import Path

from update_results import write_compact

from letterwise.errors import LetterwiseError
from letterwise.files import atomic_path, read_json
from letterwise.results import read_results
from letterwise.sweep_results import SWEEP_FILE, SweepResults

RESULTS = Path(__file__).parent / "results" / "study"
JOURNAL = "study.journal"
JOURNAL_FOLDER = "study"
RECORDED_JOURNAL = "study.journal.gz"


def copy_study(sweep_folder: Path, results: Path = RESULTS) -> Path:
    """Copy a sweep's results to `results`/<name of the sweep>, without indentation; return that folder.

    While trials are left, its journal too, both or neither.

    Raises:
        LetterwiseError: there is no complete trial, or the files cannot be read or written.
    """
    found = read_results(sweep_folder / SWEEP_FILE, SweepResults)
    journal = sweep_folder / JOURNAL_FOLDER / JOURNAL
    if not found.best or not journal.is_file():
        raise LetterwiseError(f"{sweep_folder} has no complete trial yet; run `letterwise sweep` first.")
    target = results / sweep_folder.resolve().name
    with atomic_path(target) as temporary:
        temporary.mkdir()
        write_compact(temporary / SWEEP_FILE, read_json(sweep_folder / SWEEP_FILE))
        if found.finished < len(found.trials):
            # Without the time of day: the same journal gives the same file.
            (temporary / RECORDED_JOURNAL).write_bytes(gzip.compress(journal.read_bytes(), mtime=0))
    return target


def put_back(sweep_folder: Path, results: Path = RESULTS) -> Path:
    """Copy the recorded journal to where a sweep looks for it; return its path.

    Raises:
        LetterwiseError: nothing is recorded, or the sweep has a journal of its own.
    """
    recorded = results / sweep_folder.resolve().name / RECORDED_JOURNAL
    journal = sweep_folder / JOURNAL_FOLDER / JOURNAL
    if not recorded.is_file():
        raise LetterwiseError(f"Nothing is recorded to go on with {sweep_folder.name}; there is no {recorded}.")
    if journal.exists():
        raise LetterwiseError(f"{journal} is there already: `letterwise sweep` goes on with it.")
    journal.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(journal) as temporary:
        temporary.write_bytes(gzip.decompress(recorded.read_bytes()))
    return journal


def main() -> None:
    """Run from the command line; a mistake is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description="Record a sweep in docs/results/study/, or go on with a recorded one.")
    parser.add_argument("sweep_folder", type=Path, help="such as results/study-exercises")
    parser.add_argument("--continue", dest="again", action="store_true", help="put the recorded journal back")
    options = parser.parse_args()
    try:
        if options.again:
            print(f"Written to {put_back(options.sweep_folder)}; now run `letterwise sweep` again.")
        else:
            print(f"Written to {copy_study(options.sweep_folder)}; now run `make docs`.")
    except LetterwiseError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
