"""What a run records of its model, dictionary and images, and whether the ones at hand are the same."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.contents import unpacked_contents
from infoscope.images.source import ImageSource, ids_sha256, notes_of
from infoscope.images.watched import UNREADABLE, Watched, contents_sha256, watch
from infoscope.measurement.config import MeasureConfig
from infoscope.options import RULE_VERSIONS, Rules, rules_of
from infoscope.runtime.json_values import read_json, to_json
from infoscope.runtime.manifest import (
    FORMAT_VERSION,
    DictionaryRecord,
    ImagesRecord,
    Manifest,
    ModelRecord,
    SkippedImage,
    software_versions,
)
from infoscope.runtime.replacing import finish_replacing
from infoscope.runtime.run import MANIFEST, PLAN, Run

_LOGGER = logging.getLogger(__name__)


def run_identity(
    model: ModelRecord, dictionary: DictionaryRecord, images: Watched, ids_hash: str, options: dict[str, Any]
) -> dict[str, Any]:
    """Everything that a result depends on, as JSON values; a directory resumes only under the same identity."""
    site = model_identity(model)
    if model.reads == "output":  # directories written before anything else could be read have no such entry
        del site["reads"]
    return {
        "format_version": FORMAT_VERSION,
        "options": options,
        "model": site,
        # A weights file does not always say which activation function belongs to it.
        "dictionary": {"sha256": dictionary.sha256, "activation": dictionary.activation},
        "images": {"count": len(images), "ids_sha256": ids_hash, "stamp": images.states},
        # Another version of a library may round differently, and shards of both must not be mixed.
        "software": software_versions(),
    }


def with_kept_stamp(
    out: Path,
    identity: dict[str, Any],
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    check: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """An identity with the stamp of the images that the directory's own identity has, where nothing else differs.

    Files that were touched or copied in the meantime have another stamp, and may still be the same images.

    Args:
        out: the directory.
        identity: what is to be done there.
        merge: given the directory's own identity, ``identity`` with the stamp of that one.
        check: given the directory's own identity, whether its images are known to be the same; it raises where they are
            known to differ.

    Raises:
        InfoscopeError: as ``check`` raises.
    """
    kept = read_json(out / PLAN) if (out / PLAN).is_file() else None
    if not isinstance(kept, dict) or kept == to_json(identity):
        return identity
    merged = merge(kept)
    return merged if kept == to_json(merged) and check(kept) else identity


def with_kept_rules(out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """An identity with the rules that the directory's own identity has, if a measurement is finished there.

    Classes are made of what a finished run holds, so it is the same measurement whatever rules it was judged by. Which
    these are, its manifest says: the identity of runs from before there was a choice says nothing of them.

    Args:
        out: the directory.
        identity: what is to be done there.

    Raises:
        InfoscopeError: new files of `infoscope judge` wait in the directory and cannot be moved.
    """
    if not out.is_dir():
        return identity
    finish_replacing(out, MANIFEST)
    kept = read_json(out / PLAN) if (out / MANIFEST).is_file() and (out / PLAN).is_file() else None
    if not isinstance(kept, dict) or not isinstance(kept.get("options"), dict):
        return identity
    rules = {name: value for name, value in kept["options"].items() if name == "rules"}
    others = {name: value for name, value in identity["options"].items() if name != "rules"}
    return identity | {"options": others | rules}


def more_ranks(manifest: Manifest) -> bool:
    """Whether a run's classes were judged twice by images of which it no longer has the maps."""
    ranks = manifest.options.get("ranks")
    return ranks is not None and int(ranks) > int(manifest.options["top_images"])


def check_rules(run: Run, rules: Rules) -> None:
    """Refuse a finished run that was judged by other rules than those that are asked for.

    It is not judged again unasked, since results in its directory may rest on the classes that it has.

    Raises:
        InfoscopeError: it was; the message says how to have either.
    """
    version = run.manifest.rule_version
    if version == RULE_VERSIONS[rules]:
        return
    chosen = "" if rules == MeasureConfig.rules else f" --rules {rules}"
    place = " --out NEW" if more_ranks(run.manifest) else ""
    had = rules_of(version)
    kept = f", or measure with --rules {had} to keep them" if had in RULE_VERSIONS else ""
    raise InfoscopeError(
        f"{run.path} holds this measurement, finished, with classes by the rules {had}, not {rules}: give "
        f"`infoscope judge {shlex.quote(str(run.path))}{chosen}{place}` to judge it again{kept}"
    )


def check_code_noise(run: Run, config: MeasureConfig) -> None:
    """Refuse a finished run from before code noise was measured, where the classes that are asked for rest on it.

    Raises:
        InfoscopeError: it has none; the message says how to get it.
    """
    if config.rules != "posterior" or config.noise_images == 0 or run.code_noise is not None:
        return
    raise InfoscopeError(
        f"{run.path} holds this measurement, finished, but without code noise, which classes rest on and which earlier "
        "versions did not measure: give --out NEW to measure with it"
    )


def model_identity(model: ModelRecord) -> dict[str, Any]:
    """The record without the model's name and revision: the hash of the weights says which model it is."""
    return {key: value for key, value in asdict(model).items() if key not in ("name", "revision")}


def model_record(backbone: Backbone) -> ModelRecord:
    """The record of a model at its block."""
    return ModelRecord(
        name=backbone.name,
        revision=backbone.revision,
        sha256=backbone.sha256,
        family=backbone.family,
        block=backbone.block,
        patch_size=backbone.patch_size,
        grid=backbone.grid,
        prefix_tokens=backbone.prefix_tokens,
        mean=list(backbone.mean),
        std=list(backbone.std),
        dtype=str(backbone.dtype).removeprefix("torch."),
        precision=backbone.precision,
        device=backbone.device.type,
        reads=backbone.reads,
    )


def dictionary_record(sae: SparseAutoencoder) -> DictionaryRecord:
    """The record of a dictionary."""
    return DictionaryRecord(
        name=sae.name, format=sae.format, sha256=sae.sha256, features=sae.features, activation=str(sae.activation)
    )


def images_record(images: Watched, skipped: Iterable[tuple[int, str]]) -> ImagesRecord:
    """The record of a pool of images.

    Args:
        images: the pool.
        skipped: position and reason of each image that could not be read.
    """
    return ImagesRecord(
        source=images.name,
        count=len(images),
        ids_sha256=ids_sha256(images),
        skipped=[SkippedImage(index, images.ids[index], reason) for index, reason in skipped],
        notes=notes_of(images),
        stamp=images.stamp(),
    )


def check_width(backbone: Backbone, sae: SparseAutoencoder) -> None:
    """Refuse an SAE that cannot read the model's tokens.

    Raises:
        InfoscopeError: the SAE takes tokens of another width.
    """
    if sae.width != backbone.width:
        raise InfoscopeError(
            f"the SAE {sae.name} takes tokens of width {sae.width}, but {backbone.name} has width {backbone.width}: "
            "give the SAE trained on this model"
        )


def check_belongs(run: Run, backbone: Backbone, sae: SparseAutoencoder) -> None:
    """Refuse a model or an SAE that is not the one that a run was measured with.

    Raises:
        InfoscopeError: they differ; the message says in what.
    """
    check_width(backbone, sae)
    manifest = run.manifest
    for what, given, measured in (
        ("block", backbone.block, manifest.model.block),
        ("reads", backbone.reads, manifest.model.reads),
        ("grid", backbone.grid, manifest.model.grid),
        ("model weights", backbone.sha256, manifest.model.sha256),
        ("SAE weights", sae.sha256, manifest.dictionary.sha256),
        ("activation function", str(sae.activation), manifest.dictionary.activation),
    ):
        if given != measured:
            raise InfoscopeError(f"{run.path} was measured with {what} {measured}, not {given}: give the run's own")


def other_images(run: Run, images: ImageSource) -> str | None:
    """How images differ from those that a run was measured on, in one line; None where they do not.

    Images are the same where their number, their ids and the sizes and times of their files are. Where only the times
    differ, as after a copy, up to `infoscope.images.contents.MOST_COMPARED` images are read and compared; of more, only
    the ids are compared.

    Args:
        run: the run.
        images: the images at hand.
    """
    record = run.manifest.images
    if len(images) != record.count:
        return f"{images.name} has {len(images):,} images, and {run.path} was measured on {record.count:,}"
    if ids_sha256(images) != record.ids_sha256:
        what = "content" if images.fingerprint else "names"
        return f"the images of {images.name} have other {what} than those that {run.path} was measured on"
    watched, known = watch(images), recorded_contents(run)
    if known is None or watched.stamp() == record.stamp:
        return None
    watched.whole()
    # An image that the run could not read says nothing about a change if it can be read now.
    changed = np.flatnonzero((watched.contents != known) & (known != UNREADABLE))
    if not len(changed):
        return None
    return (
        f"{len(changed):,} of the {len(images):,} images of {images.name} have changed since {run.path} was measured "
        f"on them (the first: {images.ids[int(changed[0])]})"
    )


def say_other_images(run: Run, images: ImageSource) -> None:
    """Log in one line how images differ from those that a run was measured on; as a warning if they should be the same.

    Args:
        run: the run.
        images: the images that are analysed. They may be other ones, but not by accident: where they have the name of
            the run's source, a difference is a warning.
    """
    difference = other_images(run, images)
    if difference is not None:
        level = logging.WARNING if images.name == run.manifest.images.source else logging.INFO
        _LOGGER.log(level, "%s", difference)


def as_measured(run: Run, images: ImageSource) -> Watched:
    """The images, watched so that those that have changed since a run was measured on them are refused.

    Args:
        run: the run.
        images: the images. They are compared only where they have the run's ids, in its order, and the run knows their
            content.
    """
    known = recorded_contents(run)
    if known is None or len(images) != len(known) or ids_sha256(images) != run.manifest.images.ids_sha256:
        return watch(images)
    # A new watch: content that another user of the images has read in the meantime is no reason to refuse them.
    watched = Watched(images.source if isinstance(images, Watched) else images)
    watched.expect(np.arange(len(images)), known)
    return watched


def recorded_contents(run: Run) -> UInt64[np.ndarray, " image"] | None:
    """The hashes of a run's images; None where the run does not hold them.

    Raises:
        InfoscopeError: its manifest is damaged.
    """
    record = run.manifest.images
    if record.contents is None:
        return None
    try:
        contents = unpacked_contents(record.contents, record.count)
    except ValueError:
        contents = np.zeros(0, np.uint64)
    if len(contents) != record.count or contents_sha256(contents) != record.contents_sha256:
        raise InfoscopeError(
            f"the manifest of {run.path} is damaged: the hashes of its images do not agree; measure again into a new "
            "directory"
        )
    return contents
