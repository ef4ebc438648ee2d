"""`validate`: does the measurement find planted truth, and where does it stop finding it?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from PIL import Image

from infoscope.analyses.planted.config import KINDS
from infoscope.analyses.planted_blobs.config import LEAST_PHOTOGRAPHS
from infoscope.analyses.validation.cases import CASES, COLUMNS, FEATURES, Bench
from infoscope.analyses.validation.config import FAMILIES, ValidateConfig
from infoscope.analyses.validation.like_real import ALIKE, LIKENESS, compare_runs, measure_options, read_noise
from infoscope.backbones.backbone import Backbone
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_readable
from infoscope.images.source import ArraySource, Images, ImageSource, open_images, spread_evenly
from infoscope.measurement.identity import model_record
from infoscope.runtime.columns import make_table, read_table, write_table
from infoscope.runtime.manifest import software_versions
from infoscope.runtime.progress import progress
from infoscope.runtime.run import PARTIALS, Run, claim_directory, open_run
from infoscope.runtime.seal import read_whole, write_sealed

SHORTER_SIDE = 384
"""Pixels of the shorter side of a photograph in memory. Our choice: more than any view needs, and under 1 MB each."""


def hold(images: ImageSource, count: int) -> ArraySource:
    """Read a sample of the images, spread evenly over them, into memory; unreadable images are left out.

    Raises:
        InfoscopeError: no image of the sample can be read.
    """
    sample = sorted(spread_evenly(len(images), count))
    photographs: list[np.ndarray] = []
    skipped: list[tuple[int, str]] = []
    with progress("Reading photographs", len(sample), "images") as advance:
        # One to a batch, since photographs differ in size.
        for batch in decode_readable(images, sample, _small, 1, 1, skipped, advance):
            photographs += list(batch.pixels)
    if not photographs:
        raise all_unreadable(images, skipped[0][1])
    return ArraySource(photographs, name=images.name)


def _small(image: Image.Image) -> np.ndarray:
    side = min(image.size)
    if side > SHORTER_SIDE:
        width, height = (round(length * SHORTER_SIDE / side) for length in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image)


# The figures of a summary: those with the least value over seeds, those of curves, and those with the mean alone.
_LEAST = ("auc", "auc_calibrated", "balanced_accuracy")
_POINT = ("auc", "balanced_accuracy", "unscored")
_MEAN = ("recovered", "unscored", "diffuse_as_local", "position_cds")


def summarise(cases: pl.DataFrame) -> dict[str, Any]:
    """Figures over seeds, by world, setting, family and dictionary.

    Args:
        cases: rows of `infoscope.analyses.validation.cases.CASES`.

    Returns:
        ``groups``: an entry for each world, setting, family and dictionary, with the number of seeds, the least and the
        mean of each figure over seeds (None where no case has the figure), and the confusion summed over seeds;
        ``kinds`` and ``classes``: the rows and columns of the confusion; ``outlier_model``: the dip test's p and the
        AUC on local and global features alone; ``curves``: AUC and classes by setting, axis and value, with the
        main case of the same seed as a point of each curve.
    """
    main = cases.filter((pl.col("axis") == "main") & ~pl.col("outlier_model"))
    keys = ("world", "setting", "family", "dictionary")
    entries = []
    for key, rows in main.group_by(keys, maintain_order=True):
        entry: dict[str, Any] = dict(zip(keys, key, strict=True)) | {"seeds": rows.height}
        for name in _LEAST:
            entry |= {f"{name}_least": rows[name].min(), f"{name}_mean": rows[name].mean()}
        entry |= {name: rows[name].mean() for name in _MEAN}
        confusions = rows["confusion"].drop_nulls().to_list()
        entry["line"] = rows["line"][0]
        entry["confusion"] = np.sum(confusions, axis=0).tolist() if confusions else None
        entry["seconds"] = rows["seconds"].sum()
        entries.append(entry)
    alone = cases.filter(pl.col("outlier_model"))
    model = alone.select("auc", "dip_p").row(0, named=True) if alone.height else None
    return {
        "groups": entries,
        "kinds": list(KINDS),
        "classes": list(COLUMNS),
        "outlier_model": model,
        "curves": _curves(cases),
    }


def _curves(cases: pl.DataFrame) -> list[dict[str, Any]]:
    varied = cases.filter(pl.col("axis") != "main")
    points = []
    for (setting, axis), of_axis in varied.group_by(["setting", "axis"], maintain_order=True):
        same = (pl.col("setting") == setting) & (pl.col("seed") == of_axis["seed"][0]) & (pl.col("world") == "planted")
        same &= pl.col("family") == of_axis["family"][0]
        main = cases.filter(same & (pl.col("axis") == "main") & (pl.col("dictionary") == "planted"))
        rows = pl.concat([main.filter(~pl.col("outlier_model")), of_axis])
        points += [
            {"setting": setting, "axis": axis, "value": float(row[str(axis)])} | {name: row[name] for name in _POINT}
            for row in rows.sort(str(axis)).iter_rows(named=True)
        ]
    return points


SUMMARY = "validation.json"
CASES_FILE, FEATURES_FILE, LIKENESS_FILE = "cases.parquet", "features.parquet", "likeness.parquet"


@dataclass(frozen=True)
class Validation:
    """The result of `validate`.

    Attributes:
        cases: one row a measurement; columns in `infoscope.analyses.validation.cases.CASES`.
        features: one row a measurement and planted feature; columns in `infoscope.analyses.validation.cases.FEATURES`.
        likeness: a real run beside planted ones that are to be like it, where one was given; columns in
            `infoscope.analyses.validation.like_real.LIKENESS`.
    """

    cases: pl.DataFrame
    features: pl.DataFrame
    likeness: pl.DataFrame | None = None

    def summary(self) -> dict[str, Any]:
        """The figures of all cases, as JSON values; see `infoscope.analyses.validation.validate.summarise`.

        With a real run beside them, also ``likeness``: the rows of that table; and ``alike``: by family, whether the
        planted reliability fell within 0.1 of the real one.
        """
        summary = summarise(self.cases)
        if self.likeness is not None:
            whole = self.likeness.filter(pl.col("measure") == "reliability")
            apart = {row["family"]: row["planted"] - row["real"] for row in whole.drop_nulls("planted").to_dicts()}
            summary["likeness"] = self.likeness.to_dicts()
            summary["alike"] = {family: abs(difference) <= ALIKE for family, difference in apart.items()}
        return summary


def validate(
    images: Images,
    config: ValidateConfig | None = None,
    *,
    backbone: Backbone | None = None,
    like: Path | str | Run | None = None,
    out: Path | str | None = None,
    **options: Any,
) -> Validation:
    """Measure planted models, whose features are known, and compare the result with the truth.

    Args:
        images: photographs, as `infoscope.open_images` opens them.
        config: the options (see `ValidateConfig`).
        backbone: a real model at its block, into which features are planted too.
        like: a finished run that planted models of both families are to be as noisy as. They alone are then measured,
            with the options of that run, and compared with it.
        out: a directory for the tables, ``cases.parquet``, ``features.parquet`` and ``validation.json``. Finished cases
            are kept there, and the same call resumes with the next one.
        **options: options by name, which override those of ``config``.

    Raises:
        InfoscopeError: too few photographs can be read, or ``out`` belongs to something else or cannot be written.

    Example:
        >>> import numpy as np
        >>> noise = np.random.default_rng(0).integers(0, 256, (8, 7, 7, 3), dtype=np.uint8)
        >>> validation = validate(noise.repeat(8, 1).repeat(8, 2), seeds=1, features=20, top_images=2, trained=False,
        ...                  curves=False)
        >>> validation.cases.select("family", "setting", "outlier_model").rows()[3:6], validation.features.height
        ([('patches', 'mixtures', False), ('patches', 'default', True), ('blobs', 'default', False)], 180)
    """
    config = replace(config or ValidateConfig(), **options)
    run = open_run(like) if isinstance(like, Path | str) else like
    if run is not None:
        config = _of_run(config, run, backbone)
    held = hold(open_images(images), config.photographs)
    if len(held) < LEAST_PHOTOGRAPHS:
        raise InfoscopeError(
            f"{held.name} has {len(held)} readable images; a validation takes {LEAST_PHOTOGRAPHS} or more"
        )
    # Curves take shares of the photographs there are, without unreadable ones.
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
                "like": None
                if run is None
                else {name: file.sha256 for name, file in (run.manifest.files or {}).items()},
                "images": held.fingerprint,
                "software": software_versions(),
            },
        )
    bench = Bench(held, config, backbone, None if run is None else (run, read_noise(run)))
    cases = config.cases(real=backbone is not None)
    if run is not None:
        cases = config.like_real()
    rows, features = [], []
    with progress("Validating", len(cases), "cases") as advance:
        for number, case in enumerate(cases):
            row, case_features = _kept(folder, number, lambda case=case: bench.run(case))  # type: ignore[misc]
            rows.append(row)
            features.append(case_features)
            advance(1, case.title)
    result = Validation(pl.concat(rows), pl.concat(features))
    if run is not None:
        pairs = [(family, result.features.filter(pl.col("family") == family)) for family in FAMILIES]
        compared = [row for family, planted in pairs for row in compare_runs(family, run.scope, planted)]
        result = replace(result, likeness=make_table(LIKENESS, compared))
    if folder is not None:
        files = [CASES_FILE, FEATURES_FILE]
        write_table(folder / FEATURES_FILE, result.features, FEATURES)
        write_table(folder / CASES_FILE, result.cases, CASES)
        if result.likeness is not None:
            files.append(LIKENESS_FILE)
            write_table(folder / LIKENESS_FILE, result.likeness, LIKENESS)
        write_sealed(folder / SUMMARY, result.summary(), files)
    return result


def _of_run(config: ValidateConfig, run: Run, backbone: Backbone | None) -> ValidateConfig:
    """The options of a validation like a run, which decides the measurement."""
    if backbone is not None:
        raise InfoscopeError("planted models like a run are models of their own: leave out --model, or --like")
    for name in ("photographs", "top_images", "shift"):
        if getattr(config, name) != getattr(ValidateConfig, name):
            flag = f"--{name.replace('_', '-')}"
            raise InfoscopeError(f"{flag} is the run's own with --like: leave out {flag}, or --like")
    measured = measure_options(run)
    return replace(config, photographs=run.manifest.images.count, top_images=measured.top_images, shift=measured.shift)


def load_validation(path: Path | str) -> Validation:
    """Read what `validate` wrote.

    Raises:
        InfoscopeError: a table is not there or cannot be read.
    """
    path = Path(path)
    if (path / SUMMARY).is_file():
        read_whole(path / SUMMARY, "restore it, or validate again into a new directory")
    likeness = read_table(path / LIKENESS_FILE, LIKENESS) if (path / LIKENESS_FILE).is_file() else None
    return Validation(read_table(path / CASES_FILE, CASES), read_table(path / FEATURES_FILE, FEATURES), likeness)


def _kept(
    folder: Path | None, number: int, compute: Callable[[], tuple[pl.DataFrame, pl.DataFrame]]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The two tables of a case: read back if it was finished before, otherwise computed and kept."""
    if folder is None:
        return compute()
    case, features = (folder / PARTIALS / f"{name}-{number:03}.parquet" for name in ("case", "features"))
    # Written last: where it exists, the case is whole.
    done = case.with_suffix(".json")
    if not all(file.is_file() for file in (done, case, features)):
        row, case_features = compute()
        write_table(features, case_features, FEATURES)
        write_table(case, row, CASES)
        write_sealed(done, {"case": number}, [case.name, features.name])
    read_whole(done, f"delete {done} and run the same command again")
    return read_table(case, CASES), read_table(features, FEATURES)
