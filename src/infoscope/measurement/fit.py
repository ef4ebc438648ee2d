"""The fit check: does this SAE describe this model's tokens on these images?"""

from __future__ import annotations

import base64
import logging
import math
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt64

from infoscope.backbones.backbone import Backbone
from infoscope.dictionaries.activations import TopK
from infoscope.dictionaries.fvu import FitSums
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.untrained import KINDS, reconstructs
from infoscope.errors import InfoscopeError
from infoscope.images.prefetch import all_unreadable, decode_ahead
from infoscope.images.source import Images, ImageSource, ids_sha256, open_images
from infoscope.images.spread import spread_evenly
from infoscope.images.views import Views
from infoscope.images.watched import Watched, contents_sha256, watch
from infoscope.measurement.encode import encode_views
from infoscope.measurement.fit_judgement import judge_fit
from infoscope.measurement.identity import dictionary_record, model_record
from infoscope.measurement.ranking import Ranked
from infoscope.runtime.choices import Resize
from infoscope.runtime.manifest import FitRecord
from infoscope.runtime.progress import progress
from infoscope.runtime.run import Run

# Our choice: 65,536 tokens of a 16 x 16 grid fix an FVU to the third digit, at well under 1 % of a pass's cost.
SAMPLE_IMAGES = 256


def fit_sample(count: int) -> frozenset[int]:
    """The images the fit check is made on: all, or `SAMPLE_IMAGES` spread evenly over the source.

    Example:
        >>> len(fit_sample(100)), len(fit_sample(3000)), max(fit_sample(3000))
        (100, 256, 2999)
    """
    return spread_evenly(count, SAMPLE_IMAGES)


def fit_record(ranked: Ranked, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    """The fit check of a ranking pass, judged; L0 and dead share are those of the whole pool as well."""
    _, tokens = ranked.ranking.seen
    active = ranked.ranking.tokens_active
    return _judged(ranked.fit, float(active.sum() / tokens), float((active == 0).mean()), backbone, sae)


@torch.no_grad()
def check_fit(
    backbone: Backbone,
    sae: SparseAutoencoder,
    images: Images,
    *,
    resize: Resize = "stretch",
    batch_size: int | None = None,
    threads: int | None = None,
) -> FitRecord:
    """Check whether an SAE fits a model on a sample of images, in one pass over that sample and nothing else.

    Args:
        backbone: the model, at the block the SAE is meant to be of.
        sae: the dictionary.
        images: the images; at most 256 are read, spread evenly over them.
        resize: how an image becomes square.
        batch_size: images to a forward pass; changes memory and speed, not the result.
        threads: decoding threads; one a core by default.

    Returns:
        The numbers, and in ``warnings`` what speaks against the SAE: an empty list where it fits.

    Raises:
        InfoscopeError: the SAE has another width than the model, or no image of the sample can be read.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from transformers import ViTConfig, ViTModel
        >>> from infoscope.backbones.loading import load_backbone
        >>> directory = tempfile.mkdtemp()
        >>> ViTModel(ViTConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        ...                    image_size=64, patch_size=8)).save_pretrained(directory)
        >>> backbone = load_backbone(directory, block=-1, device="cpu")
        >>> identity = torch.cat([torch.eye(32), -torch.eye(32)], dim=1)
        >>> sae = SparseAutoencoder(identity, torch.zeros(64), identity.T.contiguous(), torch.zeros(32), TopK(32))
        >>> photographs = np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8)
        >>> fit = check_fit(backbone, sae, photographs)
        >>> round(fit.fvu, 6), fit.l0, fit.sample, fit.warnings    # it keeps each token whole
        (0.0, 32.0, 384, [])
    """
    images = open_images(images)
    check_width(backbone, sae)
    sae = sae.to(backbone.device)
    view = Views(backbone.patch_size, backbone.grid, 0, resize).full
    sample = sorted(fit_sample(len(images)))
    sums = FitSums.empty(backbone.width, sae.features)
    reason = ""
    with progress("Checking the fit", len(sample), "images") as advance:
        for batch in decode_ahead(images, sample, view, batch_size or backbone.batch_size, threads):
            reason = reason or next((why for _, why in batch.unreadable), "")
            if batch.index:
                tokens = backbone.tokens(batch.pixels).flatten(0, 1)
                codes = encode_views(sae, tokens, backbone.grid**2)
                whole = slice(0, len(tokens))
                sums.update(tokens, codes.reconstruct(whole), codes.active(whole))
            advance(len(batch.index) + len(batch.unreadable))
    if not sums.fvu.tokens:
        raise all_unreadable(images, reason)
    return _judged(sums, sums.l0, sums.dead, backbone, sae)


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


def _judged(sums: FitSums, l0: float, dead: float, backbone: Backbone, sae: SparseAutoencoder) -> FitRecord:
    site = sae.site or {}
    trained = site.get("mean_token_norm")
    seen = sums.fvu.tokens > 0
    kind = KINDS.get(sae.format)
    record = FitRecord(
        fvu=None if math.isnan(sums.fvu.value) or not reconstructs(sae.format) else sums.fvu.value,
        l0=l0,
        dead=dead,
        sample=sums.fvu.tokens,
        sample_l0=sums.l0 if seen else None,
        sample_dead=sums.dead if seen else None,
        k=sae.activation.k if isinstance(sae.activation, TopK) else None,
        token_norm=sums.mean_norm if seen else None,
        trained_norm=float(trained) if isinstance(trained, int | float) else None,
    )
    if kind:
        return replace(record, warnings=[], note=kind.note)
    return replace(record, warnings=judge_fit(record, site, model_record(backbone), dictionary_record(sae)))


_LOGGER = logging.getLogger(__name__)
# Our choice: the hashes of so many images take 107 kB in a manifest, and their files are read within seconds.
MOST_COMPARED = 10_000


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
