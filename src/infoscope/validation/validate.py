"""`validate`: planted models of both settings, measured and held against the truth (method, section 9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.source import Images, open_images
from infoscope.measurement.records import model_record
from infoscope.planted.config import LEAST_IMAGES
from infoscope.progress import progress
from infoscope.storage.manifest import software_versions
from infoscope.storage.run import PARTIALS, claim_directory
from infoscope.storage.schema import read_table, write_table
from infoscope.storage.seal import read_whole, write_sealed
from infoscope.validation.case import Bench
from infoscope.validation.config import ValidateConfig
from infoscope.validation.photographs import hold
from infoscope.validation.summary import summarise
from infoscope.validation.table import CASES, FEATURES

SUMMARY = "validation.json"
CASES_FILE, FEATURES_FILE = "cases.parquet", "features.parquet"


@dataclass(frozen=True)
class Validation:
    """What `validate` found.

    Attributes:
        cases: one row a measurement; columns in `infoscope.validation.table.CASES`.
        features: one row a measurement and planted feature; columns in `infoscope.validation.table.FEATURES`.
    """

    cases: pl.DataFrame
    features: pl.DataFrame

    def summary(self) -> dict[str, Any]:
        """The figures of the main cases, as JSON values; see `infoscope.validation.summary.summarise`."""
        return summarise(self.cases)


def validate(
    images: Images,
    config: ValidateConfig | None = None,
    *,
    backbone: Backbone | None = None,
    out: Path | str | None = None,
    show_progress: bool = True,
    **options: Any,
) -> Validation:
    """Measure planted models, whose features are known, and hold the result against the truth.

    Args:
        images: photographs to plant in.
        config: the options (see `ValidateConfig`).
        backbone: a real model at its block, to plant features into as well.
        out: a directory for the tables, ``cases.parquet``, ``features.parquet`` and ``validation.json``; every finished
            case is kept there, and the same call goes on with the next.
        show_progress: report progress on stderr.
        **options: options by name, which come before those of ``config``.

    Raises:
        InfoscopeError: too few photographs can be read, or ``out`` is another's directory or cannot be written.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).integers(0, 256, (12, 7, 7, 3), dtype=np.uint8)
        >>> found = validate(noise.repeat(8, 1).repeat(8, 2), seeds=1, features=20, top_images=2, trained=False,
        ...                  curves=False, show_progress=False)
        >>> found.cases.select("setting", "shift", "outlier_model").rows(), found.features.height
        ([('default', 2, False), ('adversarial', 2, False), ('default', 2, True)], 60)
    """
    config = replace(config or ValidateConfig(), **options)
    held = hold(open_images(images), config.photographs, show_progress)
    if len(held) < LEAST_IMAGES:
        raise InfoscopeError(f"{held.name} has {len(held)} readable images; a validation takes {LEAST_IMAGES} or more")
    config = replace(config, photographs=len(held))
    if backbone is not None and backbone.width < config.features:
        raise InfoscopeError(
            f"{backbone.name} has tokens of width {backbone.width}, too few for {config.features} directions at right "
            "angles: choose --features no larger"
        )
    folder = None if out is None else Path(out)
    if folder is not None:
        model = None if backbone is None else asdict(model_record(backbone))
        claim_directory(
            folder,
            {
                "command": "validate",
                "options": asdict(config),
                "model": model,
                "images": held.fingerprint,
                "software": software_versions(),
            },
        )
    bench = Bench(held, config, backbone)
    cases = config.cases(real=backbone is not None)
    rows, features = [], []
    with progress("Validating", len(cases), "cases", enabled=show_progress) as advance:
        for number, case in enumerate(cases):
            row, found = _kept(folder, number, lambda case=case: bench.run(case))  # type: ignore[misc]
            rows.append(row)
            features.append(found)
            advance(1, case.title)
    result = Validation(pl.concat(rows), pl.concat(features))
    if folder is not None:
        write_table(folder / FEATURES_FILE, result.features, FEATURES)
        write_table(folder / CASES_FILE, result.cases, CASES)
        write_sealed(folder / SUMMARY, result.summary(), [CASES_FILE, FEATURES_FILE])
    return result


def load_validation(path: Path | str) -> Validation:
    """Read what `validate` wrote.

    Raises:
        InfoscopeError: a table is not there or cannot be read.
    """
    path = Path(path)
    if (path / SUMMARY).is_file():
        read_whole(path / SUMMARY, "restore it, or validate again into a new directory")
    return Validation(read_table(path / CASES_FILE, CASES), read_table(path / FEATURES_FILE, FEATURES))


def _kept(
    folder: Path | None, number: int, compute: Callable[[], tuple[pl.DataFrame, pl.DataFrame]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """A case's two tables: read when finished before, else computed and kept."""
    if folder is None:
        return compute()
    case, features = (folder / PARTIALS / f"{name}-{number:03}.parquet" for name in ("case", "features"))
    # The last to be written: where it is, the case is whole.
    done = case.with_suffix(".json")
    if not all(file.is_file() for file in (done, case, features)):
        row, found = compute()
        write_table(features, found, FEATURES)
        write_table(case, row, CASES)
        write_sealed(done, {"case": number}, [case.name, features.name])
    read_whole(done, f"delete {done} and run the same command again")
    return read_table(case, CASES), read_table(features, FEATURES)
