"""A case: which reader's which file is damaged how; drawn from a seed, or named, and the same in any process."""

from __future__ import annotations

import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzz import archives, json_mutations, pickles, pictures, tables, tensors
from fuzz.mutations import PLACES, REGISTRY, Expected, Mutation, another, change_place, of_kind
from fuzz.readers import Reader

# How often what is damaged is the file's structure, its bytes, or what stands in its place.
WEIGHTS = {"structure": 12, "bytes": 7, "place": 1}
# A mutation may find nothing of its kind in a file, or change nothing.
TRIES = 40


@dataclass(frozen=True)
class Case:
    """What is done to one file.

    Attributes:
        reader: whose input.
        file: which of its files.
        mutation: how it is damaged.
        number: what the mutation draws from.
    """

    reader: str
    file: str
    mutation: str
    number: int

    def __str__(self) -> str:
        return "|".join(map(str, asdict(self).values()))

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that ``str`` made the text of."""
        reader, file, mutation, number = text.split("|")
        return cls(reader, file, mutation, int(number))

    @property
    def honest(self) -> bool:
        """Whether the result is a well-formed file that may say something else."""
        return self.mutation.startswith("place.") or REGISTRY[self.mutation].honest

    def expected(self, reader: Reader) -> Expected:
        """What the reader must do, where that is more than not failing."""
        if self.mutation == "place.link":
            return "equal"
        if self.mutation == "safetensors.tensor added" and reader.strict:
            return "refused"
        return "any" if self.mutation in PLACES else REGISTRY[self.mutation].expected


def draw(reader: Reader, good: Path, seed: int, number: int) -> Case:
    """Case ``number`` of a seed."""
    rng = random.Random(f"{seed}/{reader.name}/{number}")
    for _ in range(TRIES):
        file = rng.choice(reader.targets(good))
        structured: list[list[Mutation]] = [of_kind(kind) for kind in reader.kinds_of(file)]
        what = rng.choices(
            list(WEIGHTS), [WEIGHTS["structure"] * bool(structured), WEIGHTS["bytes"], WEIGHTS["place"]]
        )[0]
        if what == "place":
            mutation = rng.choice(PLACES)
        else:
            mutation = rng.choice(rng.choice(structured) if what == "structure" else of_kind("bytes")).name
        case = Case(reader.name, file, mutation, rng.randrange(2**31))
        if changed(case, good) is not None:
            return case
    raise RuntimeError(f"no mutation fits {reader.name}")


def changed(case: Case, good: Path) -> bytes | None:
    """The file's new content, b"" for another thing in its place; None where the mutation changes nothing."""
    if case.mutation in PLACES:
        return None if case.mutation == "place.another file" and another(good / case.file) is None else b""
    content = (good / case.file).read_bytes()
    rng = random.Random(str(case))
    new = REGISTRY[case.mutation].apply(content, rng)
    return None if new is None or new == content else new


def lay_out(case: Case | None, good: Path, place: Path) -> None:
    """The reader's input in ``place``, damaged where a case is given."""
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(good, place)
    if case is None:
        return
    new = changed(case, good)
    if new is None:
        raise ValueError(f"{case} changes nothing")
    if case.mutation in PLACES:
        change_place(place / case.file, case.mutation)
    else:
        (place / case.file).write_bytes(new)


def kinds_known() -> dict[str, Any]:
    """The modules that register mutations, which need no other mention."""
    return {each.__name__: each for each in (archives, json_mutations, pickles, pictures, tables, tensors)}
