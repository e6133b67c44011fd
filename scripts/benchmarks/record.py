"""The record: raw results of every case, in a JSON file next to the page. Each case is saved when it is finished."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class Variant(BaseModel):
    """Measurements of a variant, one per round."""

    command: str = ""
    seconds: list[float] = []
    cpu: list[float] = Field([], description="Seconds of processor time of all processes.")
    memory: list[int] = Field([], description="Peak resident bytes of the new processes, except database servers.")
    stored: list[int] = Field([], description="Bytes.")
    floor: dict[str, float] = Field({}, description="The minimum seconds, by limiting resource.")


class Figure(BaseModel):
    """A number that does not belong to a variant."""

    value: float
    unit: str


class CaseResult(BaseModel):
    """The measurements of a case."""

    when: str
    commit: str
    scale: float
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float = 0
    data: str = ""
    rates: dict[str, float] = Field({}, description="Bytes per second of this machine with this data, for the floors.")
    variants: dict[str, Variant] = {}
    figures: dict[str, Figure] = {}


class Record(BaseModel):
    """The latest measurements of every case."""

    cases: dict[str, CaseResult] = {}

    @classmethod
    def load(cls, path: Path) -> Record:
        """Read the file. The record is empty if it does not exist."""
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()

    def add(self, path: Path, name: str, result: CaseResult) -> None:
        """Add a case, and save it atomically. Cases that another run saved in the meantime are kept."""
        self.cases = Record.load(path).cases | {name: result}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(self.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        temporary.rename(path)
