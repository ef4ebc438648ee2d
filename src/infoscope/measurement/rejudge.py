"""`judge_run`: new classes, trust and controls of a finished run, from its stored maps alone."""

from __future__ import annotations

import logging
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Int64

from infoscope.errors import InfoscopeError
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.identity import more_ranks
from infoscope.measurement.judging import judge_features
from infoscope.measurement.maps import feature_chunks
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.result import Scope, noise_of
from infoscope.measurement.scoring import score_with_controls
from infoscope.measurement.summary import settings_of
from infoscope.measurement.tables import scope_table
from infoscope.options import RULE_VERSIONS, Rules
from infoscope.runtime.atomic import remedy_of
from infoscope.runtime.columns import write_table
from infoscope.runtime.json_values import read_json, write_json
from infoscope.runtime.manifest import MEASURE_AGAIN, Manifest
from infoscope.runtime.progress import Advance, Clock, progress
from infoscope.runtime.replacing import replacing
from infoscope.runtime.run import CONTROLS, MANIFEST, MAPS_FILE, PARTITION, PLAN, SCOPE_FILE, Run, open_run
from infoscope.runtime.schema import SCOPE
from infoscope.runtime.seal import FileSum, file_sum
from infoscope.scope.controls import PairControls
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import PairScores

_LOGGER = logging.getLogger(__name__)
# What only the images of the pool tell, all of them, and which a run does not keep.
_OF_POOL = ("max_activation", "images_active", "density")
# Of judging; the other files of a run are as they were.
_JUDGED = (SCOPE_FILE, PARTITION, CONTROLS)
# Our choice: distances are computed in float64, and other hardware sums in another order.
_SAME = 1e-6
# Options that are kept in other words than the configuration has them.
_LISTS = ("shifts",)


def judge_run(run: Run | Path | str, rules: Rules = "posterior", *, out: Path | str | None = None) -> Run:
    """Give a finished run new classes, trust and controls, without its model, its SAE or its images.

    The distances of all pairs are computed again from the stored maps, and every feature is judged by the rules. Where
    the maps of more than k images had been judged (``ranks``), they are no longer there: the two halves are then halves
    of the k that are stored, and a line says so. Since its two judgements by k images each could not be had back, such
    a run is judged only into a new directory. Other results in the directory, such as its report, stay as they are.

    Args:
        run: the run, or its directory.
        rules: ``posterior``, or ``thresholds`` for the rules of earlier versions.
        out: a new directory for a copy with the new classes; by default the run's own tables are replaced. An
            interruption leaves the old run or the new one, whole.

    Returns:
        The judged run.

    Raises:
        InfoscopeError: a file of the run is missing or damaged, its maps do not belong to its scores, it has an option
            that this version does not know, it would lose two judgements by k images each, or the result cannot be
            written.

    Example:
        >>> judge_run("no/such/run")
        Traceback (most recent call last):
        ...
        infoscope.errors.InfoscopeError: no such run directory: no/such/run; name one that `infoscope measure` wrote
    """
    path = run.path if isinstance(run, Run) else Path(run)
    run = open_run(path)
    folder = None if out is None else _new_folder(path, Path(out))
    run.check_whole()
    config = replace(config_of(run), rules=rules, ranks=None)
    if more_ranks(run.manifest):
        ranks, top = int(run.manifest.options["ranks"]), config.top_images
        lost = f"the maps of ranks {top} to {ranks - 1} were not kept"
        if folder is None:
            raise InfoscopeError(
                f"{lost}, so {path} would lose its two judgements by up to {(ranks + 1) // 2} images each, which say "
                f"whether classes repeat: give --out, a new directory for a copy that has two by {(top + 1) // 2} each"
            )
        _LOGGER.warning(
            "%s: the two halves that say whether classes repeat are now of the first %d images",
            lost,
            top,
        )
    if rules == "posterior" and run.code_noise is None:
        _LOGGER.warning(
            "code noise was not measured and counts as none: what only noise moves counts as not following, so that "
            "few features come out local and most mixed; measure again to have code noise"
        )
    clock = Clock()
    with clock("judging"):
        table = _judged_table(run, config)
    manifest = replace(
        run.manifest,
        options=run.manifest.options | {"rules": rules, "ranks": None},
        timings=run.manifest.timings | clock.seconds,
        rule_version=RULE_VERSIONS[rules],
    )
    scope = Scope(table, run.top_images, run.path / MAPS_FILE, manifest)
    if folder is None:
        _replace(run, scope)
        return open_run(path)
    _write(run, scope, folder)
    return open_run(folder)


def config_of(run: Run) -> MeasureConfig:
    """The options of a run's measurement; those that it is too old to have are at their defaults.

    Raises:
        InfoscopeError: the manifest lacks an option without which no number can be read, or has one that is not known.
    """
    _ = settings_of(run)
    options = run.manifest.options
    known = {field.name for field in fields(MeasureConfig)}
    if strange := sorted(options.keys() - known):
        raise InfoscopeError(
            f"the manifest of {run.path} has options that this infoscope does not know ({', '.join(strange)}); judge "
            "it with the version that measured it"
        )
    values: dict[str, Any] = {name: tuple(value) if name in _LISTS else value for name, value in options.items()}
    return MeasureConfig(**values)


def _judged_table(run: Run, config: MeasureConfig) -> pl.DataFrame:
    ranking = _ranking(run, config.top_images)
    pair_scores, pair_controls = _score(run, ranking, config)
    stored = run.top_images["emd"].fill_null(float("nan")).to_numpy()
    if not np.allclose(pair_scores.emd, stored, rtol=0.0, atol=_SAME, equal_nan=True):
        raise InfoscopeError(
            f"the maps of {run.path} do not give the distances in its top_images.parquet: they are not of one "
            f"measurement; {MEASURE_AGAIN}"
        )
    grid, fvu = run.manifest.model.grid, run.manifest.fit.fvu
    features = judge_features(pair_scores, pair_controls, ranking.image, grid, config, fvu)
    table = scope_table(features, ranking)
    return table.with_columns(run.scope[name] for name in _OF_POOL)


def _ranking(run: Run, top_images: int) -> Ranking:
    """The top images as the ranking that they were, without what it knew of other images."""
    top = run.top_images.sort("feature", "rank")
    feature, rank = (top[name].to_numpy().astype(np.int64) for name in ("feature", "rank"))
    ranking = Ranking.empty(run.manifest.dictionary.features, top_images)
    ranking.image[feature, rank] = top["image"].to_numpy().astype(np.int64)
    ranking.score[feature, rank] = top["score"].to_numpy()
    if not top.equals(run.top_images) or not _consecutive(ranking.image):
        raise InfoscopeError(
            f"{run.path / 'top_images.parquet'} has not the ranks of each feature in their order; {MEASURE_AGAIN}"
        )
    return ranking


def _consecutive(image: Int64[np.ndarray, "feature rank"]) -> bool:
    """Whether each feature's ranks start at 0 and leave none out."""
    return bool((np.diff((image >= 0).astype(np.int8), axis=1) <= 0).all())


def _score(run: Run, ranking: Ranking, config: MeasureConfig) -> tuple[PairScores, PairControls]:
    """Scores and controls of all pairs, by feature, then rank, from the maps of one chunk of features at a time."""
    grid, noise = run.manifest.model.grid, noise_of(run)
    scores, controls = [], []
    chunks = feature_chunks(len(ranking.image), config.top_images, grid**2)
    with progress("Earth mover's distances", int((ranking.image >= 0).sum()), "pairs") as advance:
        for features in chunks:
            one, other = _score_chunk(run, ranking, features, config, advance, noise)
            scores.append(one)
            controls.append(other)
    return PairScores.concatenate(scores), PairControls.concatenate(controls)


def _score_chunk(
    run: Run, ranking: Ranking, features: range, config: MeasureConfig, advance: Advance, noise: Any
) -> tuple[PairScores, PairControls]:
    pairs = stored_pairs(run, ranking, features)
    return score_with_controls(pairs, run.manifest.model.grid, config, advance, len(ranking.image), noise)


def stored_pairs(run: Run, ranking: Ranking, features: range) -> MapPairs:
    """The stored maps of consecutive features, as the measurement had them.

    Args:
        run: the run.
        ranking: its top images.
        features: the features.

    Raises:
        InfoscopeError: the maps cannot be read, or there is not one of each crop for each top image.
    """
    maps = run.maps_where(pl.col("feature").is_between(features.start, features.stop - 1))
    feature, rank = np.nonzero(ranking.image[features.start : features.stop] >= 0)
    feature += features.start
    crops = [maps.filter(pl.col("crop") == crop).sort("feature", "rank") for crop in (0, 1)]
    for crop in crops:
        if not (np.array_equal(crop["feature"], feature) and np.array_equal(crop["rank"], rank)):
            raise InfoscopeError(
                f"{run.path / MAPS_FILE} has not one map of each crop for each top image; {MEASURE_AGAIN}"
            )
    cells = run.manifest.model.grid**2
    first, second = (_sparse(crop, cells) for crop in crops)
    for one in (first, second):
        key = one.rows() * cells + one.patch
        if (np.diff(key) <= 0).any() or (one.value <= 0).any():
            raise InfoscopeError(
                f"{run.path / MAPS_FILE} holds maps whose patches are not in their order, or codes that are not above "
                f"0; {MEASURE_AGAIN}"
            )
    return MapPairs(
        feature=feature.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=ranking.image[feature, rank].astype(np.uint64),
        score=ranking.score[feature, rank],
        first=first,
        second=second,
    )


def _sparse(maps: pl.DataFrame, cells: int) -> SparseMaps:
    lengths = maps["patch"].list.len().to_numpy().astype(np.int64)
    # Exploding would make a null of an empty list.
    filled = maps.filter(pl.col("patch").list.len() > 0)
    return SparseMaps(
        start=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        patch=filled["patch"].explode().cast(pl.UInt16).to_numpy(),
        value=filled["value"].explode().cast(pl.Float32).to_numpy(),
        cells=cells,
    )


def _write_judged(scope: Scope, folder: Path) -> None:
    write_table(folder / SCOPE_FILE, scope.table, SCOPE)
    write_json(folder / PARTITION, scope.partition_document())
    write_json(folder / CONTROLS, scope.controls().to_json())


def _kept_sums(run: Run) -> dict[str, FileSum]:
    """Checksums of the files that stay as they are; of a run that is older than checksums, those of its tables."""
    if run.manifest.files is not None:
        return {name: known for name, known in run.manifest.files.items() if name not in _JUDGED}
    names = [file.name for file in run.path.iterdir() if file.suffix == ".parquet" and file.name not in _JUDGED]
    return {name: file_sum(run.path / name) for name in names}


def _replace(run: Run, scope: Scope) -> None:
    """Put the judged tables in the place of the run's."""
    kept = _kept_sums(run)
    with replacing(run.path, MANIFEST) as waiting:
        _write_judged(scope, waiting)
        _replan(run.path / PLAN, waiting / PLAN, scope.manifest)
        scope.manifest.write(waiting / MANIFEST, _JUDGED, kept)


def _new_folder(path: Path, out: Path) -> Path:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        if out.resolve() == path.resolve():
            raise InfoscopeError(f"{out} is the run itself; leave --out out, or name another directory")
        raise InfoscopeError(f"{out} is there already; name another directory with --out")
    return out


def _write(run: Run, scope: Scope, out: Path) -> None:
    """Write the run with its new tables into a new folder, which appears when it is whole."""
    unfinished = out.with_name(f".{out.name}.judging")
    try:
        if unfinished.exists():  # of a process that was killed
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        kept = _kept_sums(run)
        for name in kept:
            shutil.copyfile(run.path / name, unfinished / name)
        _write_judged(scope, unfinished)
        _replan(run.path / PLAN, unfinished / PLAN, scope.manifest)
        scope.manifest.write(unfinished / MANIFEST, [*kept, *_JUDGED])
        unfinished.replace(out)
    except OSError as error:
        raise InfoscopeError(f"cannot write {out}: {error.strerror or error}; {remedy_of(error)}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _replan(plan: Path, to: Path, manifest: Manifest) -> None:
    """Write the plan, by which `infoscope measure` knows the directory of a measurement again, with the new rules."""
    value = read_json(plan) if plan.is_file() else None
    if not isinstance(value, dict) or not isinstance(value.get("options"), dict):
        return
    rules = manifest.options["rules"]
    # As `measure_scope` writes it: an option that came later is left out at its default.
    left_out = ("ranks", "rules") if rules == MeasureConfig.rules else ("ranks",)
    options = value["options"] | {"rules": rules}
    write_json(to, value | {"options": {name: entry for name, entry in options.items() if name not in left_out}})
