"""The record: raw results of every case, in a JSON file beside the page. Each case is saved when it is done."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field


class Variant(BaseModel):
    """One thing that was measured, once a round."""

    command: str = ""
    seconds: list[float] = []
    cpu: list[float] = Field([], description="Seconds of processor time of all processes.")
    memory: list[int] = Field([], description="Peak resident bytes of the processes that began, database servers left out.")
    stored: list[int] = Field([], description="Bytes.")
    floor: dict[str, float] = Field({}, description="What bounds it, with the seconds that this needs.")


class Figure(BaseModel):
    """A number that is no variant's."""

    value: float
    unit: str


class CaseResult(BaseModel):
    """What one case has measured."""

    when: str
    commit: str
    scale: float
    machine: dict[str, str]
    versions: dict[str, str]
    seconds: float = 0
    data: str = ""
    rates: dict[str, float] = Field({}, description="Bytes a second of this machine with these data, for the floors.")
    variants: dict[str, Variant] = {}
    figures: dict[str, Figure] = {}


class Record(BaseModel):
    """Every case that was ever measured, the last time."""

    cases: dict[str, CaseResult] = {}

    @classmethod
    def load(cls, path: Path) -> Record:
        """What the file holds; nothing when there is none."""
        return cls.model_validate_json(path.read_text()) if path.exists() else cls()

    def add(self, path: Path, name: str, result: CaseResult) -> None:
        """Keep a case in the file, too, at once or not at all. What another run has kept there meanwhile stays."""
        self.cases = Record.load(path).cases | {name: result}
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".new")
        temporary.write_text(self.model_dump_json(indent=1, exclude_defaults=True) + "\n")
        temporary.rename(path)
