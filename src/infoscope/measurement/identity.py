"""What a run records of its model, dictionary and images, and whether those at hand are the same."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt64

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.errors import InfoscopeError
from infoscope.images.source import ImageSource, ids_sha256
from infoscope.images.watched import Watched, contents_sha256, watch
from infoscope.runtime.atomic import as_read, read_json
from infoscope.runtime.manifest import FORMAT_VERSION, DictionaryRecord, ModelRecord, software_versions
from infoscope.runtime.run import PLAN, Run

_LOGGER = logging.getLogger(__name__)
# Our choice: the hashes of so many images take 107 kB in a manifest, and their files are read within seconds.
MOST_COMPARED = 10_000


def plan(
    model: ModelRecord, dictionary: DictionaryRecord, images: Watched, ids_hash: str, options: dict[str, Any]
) -> dict[str, Any]:
    """All that a result depends on, as JSON values: a directory is gone on with only when it is the same."""
    site = model_identity(model)
    if model.reads == "output":  # as it was before anything else could be read
        del site["reads"]
    return {
        "format_version": FORMAT_VERSION,
        "options": options,
        "model": site,
        # A weights file alone does not say how many codes are kept.
        "dictionary": {"sha256": dictionary.sha256, "activation": dictionary.activation},
        "images": {"count": len(images), "ids_sha256": ids_hash, "stamp": images.states},
        "software": software_versions(),
    }


def with_kept_stamp(
    out: Path,
    planned: dict[str, Any],
    merge: Callable[[dict[str, Any]], dict[str, Any]],
    check: Callable[[dict[str, Any]], bool],
) -> dict[str, Any]:
    """A plan with the stamp of the images that the directory's own plan has, where nothing else differs.

    Files that were touched or copied since have another stamp, and may be the same images.

    Args:
        out: the directory.
        planned: the plan.
        merge: the plan with the stamp of another one.
        check: given the plan that is there, whether its images are known to be the same; raises where they are others.

    Raises:
        InfoscopeError: as ``check`` raises.
    """
    found = read_json(out / PLAN) if (out / PLAN).is_file() else None
    if not isinstance(found, dict) or found == as_read(planned):
        return planned
    same = merge(found)
    if found != as_read(same):
        return planned
    return same if check(found) else planned


def model_identity(model: ModelRecord) -> dict[str, Any]:
    """The record without what the model is called: the weights' hash says which one it is."""
    return {key: value for key, value in asdict(model).items() if key not in ("name", "revision")}


def model_record(backbone: Backbone) -> ModelRecord:
    """The model at its block."""
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
    """The SAE."""
    return DictionaryRecord(
        name=sae.name, format=sae.format, sha256=sae.sha256, features=sae.features, activation=str(sae.activation)
    )


def check_width(backbone: Backbone, sae: SparseAutoencoder) -> None:
    """Refuse an SAE that cannot read the model's tokens.

    Raises:
        InfoscopeError: it takes tokens of another width.
    """
    if sae.width != backbone.width:
        raise InfoscopeError(
            f"the SAE {sae.name} takes tokens of width {sae.width}, but {backbone.name} has width {backbone.width}: "
            "give the SAE trained on this model"
        )


def check_belongs(run: Run, backbone: Backbone, sae: SparseAutoencoder) -> None:
    """Refuse a model or an SAE that is not the one a run was measured with.

    Raises:
        InfoscopeError: naming what differs.
    """
    check_width(backbone, sae)
    manifest = run.manifest
    for what, here, there in (
        ("block", backbone.block, manifest.model.block),
        ("reads", backbone.reads, manifest.model.reads),
        ("grid", backbone.grid, manifest.model.grid),
        ("model weights", backbone.sha256, manifest.model.sha256),
        ("SAE weights", sae.sha256, manifest.dictionary.sha256),
    ):
        if here != there:
            raise InfoscopeError(f"{run.path} was measured with {what} {there}, not {here}: give the run's own")


def other_images(run: Run, images: ImageSource) -> str | None:
    """In which way images are not those that a run was measured on, in a line; None where they are.

    They are the same where their number, their ids and their files' sizes and times are. Where only the times differ,
    as after a copy, the files are read and compared, up to `MOST_COMPARED`; of more the ids decide.

    Args:
        run: the run.
        images: what was opened.
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
    changed = np.flatnonzero(watched.contents != known)
    if not len(changed):
        return None
    return (
        f"{len(changed):,} of the {len(images):,} images of {images.name} have changed since {run.path} was measured "
        f"on them (the first: {images.ids[int(changed[0])]})"
    )


def say_other_images(run: Run, images: ImageSource) -> None:
    """Say in one line where images are not those that a run was measured on; it is a warning where they ought to be.

    Args:
        run: the run.
        images: what is analysed, which may well be others.
    """
    difference = other_images(run, images)
    if difference is not None:
        level = logging.WARNING if images.name == run.manifest.images.source else logging.INFO
        _LOGGER.log(level, "%s", difference)


def as_measured(run: Run, images: ImageSource) -> Watched:
    """Images that refuse what has changed since a run was measured on them, as far as the run knows.

    Args:
        run: the run.
        images: the images, of the same ids in the same order; those of others are not compared.
    """
    known = recorded_contents(run)
    if known is None or len(images) != len(known) or ids_sha256(images) != run.manifest.images.ids_sha256:
        return watch(images)
    # A watch of its own: what others have read meanwhile is no reason to refuse.
    watched = Watched(images.source if isinstance(images, Watched) else images)
    watched.expect(np.arange(len(images)), known)
    return watched


def packed_contents(contents: UInt64[np.ndarray, " image"]) -> str | None:
    """What images are like (see `Watched`), as a manifest has it; None where there are too many.

    Example:
        >>> packed_contents(np.array([7], np.uint64))
        'BwAAAAAAAAA='
    """
    if len(contents) > MOST_COMPARED:
        return None
    return base64.b64encode(np.ascontiguousarray(contents, "<u8").tobytes()).decode("ascii")


def recorded_contents(run: Run) -> UInt64[np.ndarray, " image"] | None:
    """What a run's images were like; None where it does not know.

    Raises:
        InfoscopeError: its manifest is damaged.
    """
    record = run.manifest.images
    if record.contents is None:
        return None
    try:
        contents = np.frombuffer(base64.b64decode(record.contents, validate=True), "<u8").astype(np.uint64)
    except (TypeError, ValueError):
        contents = np.zeros(0, np.uint64)
    if len(contents) != record.count or contents_sha256(contents) != record.contents_sha256:
        raise InfoscopeError(
            f"the manifest of {run.path} is damaged: the hashes of its images do not agree; measure again into a new "
            "directory"
        )
    return contents
