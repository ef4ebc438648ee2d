"""Code noise of a measurement: some images' first crop, encoded as it is and with pixel noise (method, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt64

from infoscope.dictionaries.activations import JumpReLU
from infoscope.dictionaries.sae import SparseAutoencoder
from infoscope.dictionaries.sparse import SparseCodes, encode_sparse
from infoscope.errors import InfoscopeError
from infoscope.images.source import spread_evenly
from infoscope.images.views import Cut
from infoscope.images.watched import Watched, digest_pixels
from infoscope.measurement.encode import SparseViewCodes
from infoscope.measurement.passes import EncodedViews, Passes
from infoscope.measurement.ranking import Ranking, join_arrays, split_arrays
from infoscope.runtime.executor import Executor, Job, trailing
from infoscope.runtime.partials import Arrays, Partials, digest, shards
from infoscope.runtime.progress import Advance, progress
from infoscope.scope.code_noise import Basis, CodeNoise
from infoscope.scope.noise_counts import Codes, NoiseCounts

PIXEL_NOISE = 2.0
"""Standard deviation of the noise, in steps of 8-bit pixels (method, section 4)."""
# Our choice: the median over features is then as good as exact, and the counts of a shard take 30 MB.
COUNTED_FEATURES = 2048
# Our choice: few enough that a stop loses little, and that four workers share 256 images.
SHARD_IMAGES = 64


@dataclass(frozen=True)
class Counting:
    """How the codes of one dictionary are counted.

    Attributes:
        slot: where each feature is counted; -1 for those that are not.
        scale: what the codes of each feature are divided by.
        basis: what margins are over.
    """

    slot: Int64[np.ndarray, " feature"]
    scale: Float64[np.ndarray, " feature"]
    basis: Basis

    @property
    def features(self) -> int:
        """How many features are counted."""
        return int(self.slot.max()) + 1

    @property
    def short_scale(self) -> tuple[float, ...]:
        """The scale, once where it is the same for all features."""
        values: list[float] = self.scale.tolist()
        return tuple(values[:1]) if len(set(values)) == 1 else tuple(values)

    @classmethod
    def of(cls, sae: SparseAutoencoder, ranking: Ranking) -> Counting:
        """Count `COUNTED_FEATURES` features, spread evenly, in units of their thresholds or of what is nearest to one.

        Where a token's codes compete, as under TopK, one number serves all features, since all pass the same threshold:
        half of the features' largest scores lie below it. Thresholds of features' own are their units; where there are
        none, a feature's largest score is.

        Args:
            sae: the dictionary.
            ranking: its strongest images.
        """
        slot = np.full(sae.features, -1, np.int64)
        counted = sorted(spread_evenly(sae.features, COUNTED_FEATURES))
        slot[counted] = np.arange(len(counted))
        largest = ranking.score[:, 0].astype(np.float64)
        largest = np.where(largest > 0, largest, 1.0)
        basis: Basis
        if not sae.activation.pointwise:
            basis, scale = "token", np.full(sae.features, np.median(largest))
        elif isinstance(sae.activation, JumpReLU):
            threshold = sae.activation.threshold.detach().cpu().numpy().astype(np.float64)
            basis, scale = "threshold", np.where(threshold > 0, threshold, largest)
        else:
            basis, scale = "maximum", largest
        # As they are stored, so that reading them back changes nothing.
        return cls(slot, np.array([float(f"{value:.6g}") for value in scale]), basis)


@dataclass(frozen=True)
class ShardCounts:
    """The counts of a shard, for each target."""

    targets: list[NoiseCounts]

    def arrays(self) -> Arrays:
        """The counts as named arrays, for the shard's file."""
        return join_arrays([counts.arrays() for counts in self.targets])


def measure_noise(
    executor: Executor,
    passes: Passes,
    rankings: Sequence[Ranking],
    contents: UInt64[np.ndarray, " image"],
    partials: Partials,
) -> list[CodeNoise] | None:
    """The code noise of each target's dictionary; None where ``noise_images`` is 0.

    Args:
        executor: runs the shards.
        passes: what its workers hold.
        rankings: each target's strongest images; the images are spread evenly over the first k of all features.
        contents: hashes of all images as they were ranked; empty unless the images are watched.
        partials: where finished shards are kept.
    """
    # The ranks after the first k serve the halves alone and change no other number.
    rankings = [ranking.first(passes.config.top_images) for ranking in rankings]
    chosen = np.unique(np.concatenate([ranking.image[ranking.image >= 0] for ranking in rankings]))
    chosen = chosen[sorted(spread_evenly(len(chosen), passes.config.noise_images))]
    if not len(chosen):
        return None
    countings = [Counting.of(target.sae, ranking) for target, ranking in zip(passes.targets, rankings, strict=True)]
    name = digest(chosen, *(counting.scale for counting in countings))
    jobs = []
    for shard in shards(len(chosen), SHARD_IMAGES):
        image = chosen[shard.start : shard.stop]
        arguments = countings, image, contents[image] if len(contents) else None
        jobs.append(Job(f"noise-{name}-{shard.start:06}", len(image), count_shard, arguments))
    parts: list[list[NoiseCounts]] = []
    with progress("Code noise", len(chosen), "images") as advance:
        for arrays in executor.run(jobs, partials, advance):
            parts.append([NoiseCounts.from_arrays(own) for own in split_arrays(arrays, len(countings))])
    return [
        CodeNoise.of_counts(NoiseCounts.total(list(own)), counting.short_scale, counting.basis, PIXEL_NOISE)
        for counting, own in zip(countings, zip(*parts, strict=True), strict=True)
    ]


def count_shard(
    passes: Passes,
    countings: Sequence[Counting],
    image: Int64[np.ndarray, " image"],
    contents: UInt64[np.ndarray, " image"] | None,
    advance: Advance,
) -> ShardCounts:
    """Compare the codes of some images' first crop with and without pixel noise.

    Args:
        passes: model, dictionaries, images and options.
        countings: how the codes of each target are counted.
        image: the images.
        contents: their hashes, where they are known; they are checked.
        advance: called with the number of images done.

    Raises:
        InfoscopeError: an image can no longer be read, or has changed since it was ranked.
    """
    if isinstance(passes.images, Watched) and contents is not None:
        passes.images.expect(image, contents)
    grid, seed = passes.backbone.grid, passes.config.seed
    counts = [NoiseCounts.empty(counting.features, len(counting.slot)) for counting in countings]
    skipped: list[tuple[int, str]] = []

    def take(images: int, encoded: Sequence[EncodedViews]) -> None:
        for own, counting, total in zip(encoded, countings, counts, strict=True):
            codes = _sparse(own, passes.cells)
            for number in range(images):
                clean, noisy = (_of_view(codes, view, passes.cells) for view in (number, images + number))
                total.add(clean, noisy, grid, counting.slot, counting.scale, counting.basis == "token")

    with trailing(passes.trails) as follow:
        for batch in passes.decode(image.tolist(), (Cut(0, 0),), skipped, advance, encodings=2):
            clean = batch.pixels[:, 0]
            noisy = np.stack([jittered(view, seed) for view in clean])
            follow(partial(take, len(batch.index), passes.encode(np.concatenate([clean, noisy]))))
    if skipped:
        index, reason = skipped[0]
        raise InfoscopeError(
            f"{passes.images.ids[index]} was read before and cannot be read now ({reason}); "
            "restore it, or measure into a new directory"
        )
    return ShardCounts(counts)


def jittered(pixels: UInt8[np.ndarray, "height width 3"], seed: int) -> UInt8[np.ndarray, "height width 3"]:
    """A view with pixel noise, rounded and clipped to 8 bits.

    It depends on the view's own pixels and the seed alone, so that neither other images nor images that cannot be read
    change it.

    Example:
        >>> grey = np.full((64, 64, 3), 100, np.uint8)
        >>> round(float(jittered(grey, 0).std()), 1), np.array_equal(jittered(grey, 0), jittered(grey, 0))
        (2.0, True)
    """
    noise = np.random.default_rng([seed, digest_pixels(pixels)]).normal(0.0, PIXEL_NOISE, pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def _sparse(views: EncodedViews, cells: int) -> SparseCodes:
    codes = views.codes
    if isinstance(codes, SparseViewCodes):
        return codes.codes
    return encode_sparse(views.target.sae, views.tokens, cells)


def _of_view(codes: SparseCodes, view: int, cells: int) -> Codes:
    own = codes.rows(slice(view * cells, (view + 1) * cells))
    return own.start, own.feature, own.value
