"""`measure_scope`: from a model, an SAE and images to the scope of every feature."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.contents import packed_contents
from infoscope.images.prefetch import all_unreadable
from infoscope.images.source import Images, ids_sha256, open_images
from infoscope.images.watched import Watched, contents_sha256, watch
from infoscope.measurement.config import MeasureConfig
from infoscope.measurement.cross_checks import CrossChecks, CrossScoring
from infoscope.measurement.fit import fit_record, fit_sample
from infoscope.measurement.identity import (
    check_code_noise,
    check_rules,
    check_width,
    dictionary_record,
    images_record,
    model_record,
    run_identity,
    with_kept_rules,
    with_kept_stamp,
)
from infoscope.measurement.judging import judge_features
from infoscope.measurement.map_sets import map_sets, wanted_maps
from infoscope.measurement.maps import MapParts, feature_chunks
from infoscope.measurement.noise import measure_noise
from infoscope.measurement.passes import Passes, Target, map_images, rank_images
from infoscope.measurement.ranking import ranked_contents
from infoscope.measurement.result import Scope
from infoscope.measurement.scoring import Scoring
from infoscope.measurement.tables import scope_table, top_images_table
from infoscope.options import RULE_VERSIONS
from infoscope.runtime.execution import Execution, split_options
from infoscope.runtime.executor import Executor, LocalExecutor
from infoscope.runtime.manifest import FORMAT_VERSION, Manifest, software_versions
from infoscope.runtime.partials import Partials
from infoscope.runtime.progress import Clock
from infoscope.runtime.run import MANIFEST, MAPS_FILE, PARTIALS, Run, claim_directory

# Options that came later, and their defaults: the same command finds what it measured before there were these.
_LATER: dict[str, Any] = {"ranks": None, "rules": "posterior", "noise_images": 256}


def measure_scope(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    config: MeasureConfig | None = None,
    *,
    out: Path | str | None = None,
    execution: Execution | None = None,
    command: str = "infoscope.measure_scope",
    **options: Any,
) -> Scope:
    """Measure the information scope of every feature of an SAE (method, sections 2 to 4).

    Args:
        backbone: the model, at the block the SAE was trained on.
        sae: the dictionary.
        images: the pool of images: a source, or what `infoscope.open_images` opens.
        config: the options (see `MeasureConfig`).
        out: a run directory to write. An interrupted measurement with the same options resumes there, and a finished
            one is read back. One that was judged by other rules is refused: `judge_run` judges it again. By default
            nothing is written.
        execution: how the passes run (see `Execution`); it changes memory and speed, not the result.
        command: what the manifest names as the command of this measurement.
        **options: options of either by name, such as ``top_images=16, shift=2, batch_size=4``; they override those of
            ``config`` and ``execution``.

    Returns:
        A `Scope`: ``scope.table`` has one row a feature.

    Raises:
        InfoscopeError: the SAE and the model have different widths; the shift leaves no overlap; no image can be read,
            or an image changes during the measurement; ``out`` is another run's directory, holds a finished run with a
            damaged file or with classes by other rules, or cannot be written; or the executor is not installed.

    Example:
        >>> import tempfile, numpy as np, torch
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> from infoscope.dictionaries.activations import TopK
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> sae = SparseAutoencoder(torch.eye(32, 64), torch.zeros(64), torch.eye(64, 32), torch.zeros(32), TopK(4))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> scope = measure_scope(backbone, sae, photographs, top_images=4, shift=0)
        >>> scope.table.height, scope.table["cds"].max()    # without a shift nothing moves
        (64, 0.0)
    """
    own, execution = split_options(MeasureConfig, execution, options, ray=True)
    config = replace(config or MeasureConfig(), **own)
    images = watch(open_images(images))
    sae = sae.to(backbone.device)
    check_width(backbone, sae)
    batch_size = execution.batch_size or backbone.batch_size
    passes = Passes((Target(backbone, sae),), images, config, fit_sample(len(images)), batch_size, execution.threads)
    _ = passes.views  # raises for an impossible shift before anything is written
    check_control(config, backbone)
    model, dictionary = model_record(backbone), dictionary_record(sae)
    ids_hash = ids_sha256(images)
    stored_options = asdict(config) | {"min_pairs": config.least_pairs, "shifts": list(config.curve)}
    partials = Partials(None if out is None else Path(out) / PARTIALS)
    if out is not None:
        # Directories written before there were these options have no such entries.
        options_of_identity = {
            name: value for name, value in stored_options.items() if (name, value) not in _LATER.items()
        }
        identity = run_identity(model, dictionary, images, ids_hash, options_of_identity)
        identity = with_kept_rules(Path(out), identity)
        identity = with_kept_stamp(
            Path(out),
            identity,
            lambda kept: _with_stamp_of(kept, identity),
            lambda kept: _same_images(Path(out), kept, images, partials),
        )
        if claim_directory(Path(out), identity):
            measured = Scope.load(out)
            check_rules(measured.run, config.rules)
            check_code_noise(measured.run, config)
            partials.clear()
            if measured.manifest.files is None:  # `claim_directory` compares checksums, which older runs do not have
                Run(Path(out), measured.manifest).check_whole()
            return measured
    clock = Clock()

    chunks = feature_chunks(sae.features, max(config.mapped_images, config.quantile_images), passes.cells)
    with _executor(passes, execution) as executor:
        with clock("ranking"):
            fold = rank_images(executor, passes, execution.shard_images, partials, [chunks])
        assert fold.ranked is not None  # a source is never empty
        skipped, (ranked,), (gathered,) = fold.ranked.skipped, fold.ranked.dictionaries, fold.parts
        # Images that another process ranked, now or before a restart, must be the same ones here.
        images.expect(np.arange(len(images)), fold.ranked.contents)
        if not ranked.ranking.seen[0]:
            # Otherwise the next start would resume from shards without images, even after the images are repaired.
            partials.clear()
            raise all_unreadable(images, skipped[0][1])
        with clock("maps"):
            spread = None if ranked.sample is None else ranked.sample.spread(config.quantile_images)
            wanted = wanted_maps(ranked.ranking, spread, config, gathered=bool(gathered))
            parts = map_images(executor, passes, [wanted], images.contents, execution.shard_images, partials)
        with clock("noise"):
            noises = measure_noise(executor, passes, [ranked.ranking], images.contents, partials)
            noise = None if noises is None else noises[0]
    scoring = Scoring(chunks, backbone.grid, config, partials, noise)
    with clock("scores"):
        maps = MapParts(gathered or parts, chunks, passes.cells)
        maps_file = None if out is None else Path(out) / MAPS_FILE
        pair_scores, pair_controls, maps_source = scoring.score(maps, ranked.ranking, maps_file)
        fit = fit_record(ranked, backbone, sae)
        features = judge_features(pair_scores, pair_controls, ranked.ranking.image, backbone.grid, config, fit.fvu)
        # From here on only the first k images of each feature count.
        top = ranked.ranking.first(config.top_images)
        pair_scores = pair_scores.take(np.flatnonzero(np.nonzero(ranked.ranking.image >= 0)[1] < config.top_images))
    checks = CrossChecks()
    if len(map_sets(config)) > 1:
        with clock("cross-checks"):
            checks = CrossScoring(scoring, parts, top, spread).run(pair_scores, images.ids)
    scope = Scope(
        scope_table(features, top),
        top_images_table(top, pair_scores, images.ids),
        maps_source,
        Manifest(
            format_version=FORMAT_VERSION,
            command=command,
            options=stored_options,
            model=model,
            dictionary=dictionary,
            images=replace(
                images_record(images, skipped),
                contents_sha256=contents_sha256(images.contents),
                contents=packed_contents(images.contents),
                contents_of=images.contents_of,
            ),
            software=software_versions(),
            seed=config.seed,
            timings=clock.seconds,
            fit=fit,
            rule_version=RULE_VERSIONS[config.rules],
        ),
        checks.shift_curve,
        checks.cross_checks,
        checks.quantile_images,
        noise,
    )
    # Files that changed during the measurement would leave tables of images that no longer exist.
    images.check()
    if out is not None:
        scope.save(out)
        partials.clear()
    return scope


def _with_stamp_of(kept: dict[str, Any], identity: dict[str, Any]) -> dict[str, Any]:
    """An identity, with the stamp of the images that another identity holds."""
    images = kept.get("images")
    stamp = images.get("stamp") if isinstance(images, dict) else None
    return identity | {"images": identity["images"] | {"stamp": stamp}}


def _same_images(out: Path, kept: dict[str, Any], images: Watched, partials: Partials) -> bool:
    """Whether images whose files' times have changed since a measurement started still have the same content.

    Args:
        out: the run directory.
        kept: the identity in it.
        images: the images.
        partials: the measurement's partial results, which hold hashes of the images that were ranked.

    Returns:
        False where the earlier content is not known.

    Raises:
        InfoscopeError: the content is known, and has changed.
    """
    if not (out / MANIFEST).is_file():
        images.expect(np.arange(len(images)), ranked_contents(partials, len(images)))
        images.verify(read := np.flatnonzero(images.contents))
        return len(read) > 0
    recorded = Manifest.read(out / MANIFEST).images.contents_sha256
    if recorded is None:  # older runs know the sizes and times of the files, and no content
        return bool(kept["images"]["stamp"] == images.stamp())
    if images.whole() != recorded:
        raise InfoscopeError(
            f"the images of {images.name} have changed since they were measured into {out}; put back what was there, "
            "or choose another --out"
        )
    return True


def check_control(config: MeasureConfig, backbone: Backbone) -> None:
    """Refuse a control that means nothing for this model.

    Raises:
        InfoscopeError: positions are to be matched, and the model has no position table.
    """
    if config.control == "position-matched" and backbone.position_table is None:
        raise InfoscopeError(
            f"--control position-matched needs a learned position table, and {backbone.name} ({backbone.family}) has "
            "none: its positions are rotary and say how far patches are apart, not where they are, so there is no "
            "embedding to carry over; leave the option out"
        )


def _executor(passes: Passes, execution: Execution) -> AbstractContextManager[Executor]:
    if execution.executor == "local":
        return nullcontext(LocalExecutor(passes))
    from infoscope.runtime.ray import RayExecutor  # here, since Ray is an optional dependency

    return RayExecutor(passes, execution.workers, execution.address)
