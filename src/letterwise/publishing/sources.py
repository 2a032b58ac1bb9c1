"""What a finished run offers for publication, and whether it may be published.

Knows the layout of a run folder; knows nothing about the Hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import ModelCard, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError

from letterwise.adapters import ADAPTER_WEIGHTS, check_adapter, refuse_ceiling
from letterwise.errors import LetterwiseError
from letterwise.files import sha256_file
from letterwise.licences import GEMMA, passed_on
from letterwise.models import BaseModel
from letterwise.packaged_models import PACKAGED
from letterwise.publication import BaseKind, PublishedBase
from letterwise.results import EvaluationResults, read_results


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, its adapter and its base model."""

    name: str
    folder: Path
    adapter: Path
    base_name: str
    """As `--base-model` takes it."""
    base: BaseModel

    @property
    def base_kind(self) -> BaseKind:
        """Where those who download the adapter get the base model."""
        if self.base_name in PACKAGED:
            return "embedded"
        return "folder" if Path(self.base_name).expanduser().is_dir() else "hub"

    def published_base(self) -> PublishedBase:
        """The base model as a bundle names it."""
        kind = self.base_kind
        if kind == "embedded":
            hub_id: str | None = PACKAGED[self.base_name].hub_id
        else:
            hub_id = self.base_name if kind == "hub" else None
        name = Path(self.base_name).name if kind == "folder" else self.base_name
        return PublishedBase(kind=kind, name=name, id=self.base.id, revision=self.base.revision, hub_id=hub_id)

    def check(self, merged: bool, license_id: str | None) -> EvaluationResults:
        """Make sure that the model may be published; returns what the run measured.

        Raises:
            LetterwiseError: the run is not finished, the adapter is not the one that was evaluated or is a ceiling,
                nobody else has the base model, or the licence is not known.
        """
        results = self._evaluation()
        if self.base_kind == "folder" and not merged:
            raise LetterwiseError(
                f"The base model {self.base.id} is a local folder, which those who download the adapter do not have: "
                "add --merged to publish the stand-alone model too."
            )
        self.license(license_id)
        return results

    def _evaluation(self) -> EvaluationResults:
        results = read_results(self.folder / "evaluation_results.json", EvaluationResults)
        if results.finetuned_model is None:
            raise LetterwiseError(f"{self.folder} has no evaluation of a tuned model; run `letterwise evaluate` first.")
        check_adapter(self.adapter, self.base)
        refuse_ceiling(self.adapter)
        if not sha256_file(self.adapter / ADAPTER_WEIGHTS).startswith(results.finetuned_model.revision):
            raise LetterwiseError(
                f"The adapter {self.adapter} is not the one that {self.folder} evaluated; run `letterwise run` again."
            )
        return results

    def license(self, chosen: str | None) -> str:
        """The chosen licence, or that of the base model, from which the weights derive.

        Raises:
            LetterwiseError: none was chosen and the base model's is not known, or the base model's terms hold for
                whatever derives from it and another was chosen.
        """
        known = self._license_of_base()
        if known == GEMMA and chosen not in (None, GEMMA):
            raise LetterwiseError(
                f"{self.base.id} is under the Gemma Terms of Use, which hold for whatever derives from it: leave out "
                f"--license {chosen}."
            )
        if not (found := chosen or known):
            raise LetterwiseError(
                f"The licence of {self.base.id} is not known here; look it up and name it with --license, such as "
                "--license apache-2.0."
            )
        return found

    def _license_of_base(self) -> str | None:
        if self.base_kind == "embedded":
            return PACKAGED[self.base_name].license
        return passed_on(self.base.folder) or self._license_in_card()

    def _license_in_card(self) -> str | None:
        """What the base model's own card says, of a Hub model the one at its pinned commit."""
        card = self.file_of_base("README.md")
        try:
            known = ModelCard.load(card, ignore_metadata_errors=True).data.license if card else None
        except ValueError:  # its metadata cannot be read
            return None
        return known if isinstance(known, str) else None

    def file_of_base(self, name: str) -> Path | None:
        """A file that came with the base model, of a Hub model fetched at its pinned commit; None if there is none."""
        if self.base_kind == "hub":
            try:
                return Path(hf_hub_download(self.base_name, name, revision=self.base.revision))
            except (OSError, ValueError, EntryNotFoundError):  # no such file, or no Hub to ask
                return None
        path = self.base.folder / name
        return path if path.is_file() else None
