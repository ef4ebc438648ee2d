"""What the ranking pass learns of images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt64

from infoscope.execution.partials import Arrays
from infoscope.measurement.fit_sums import FitSums
from infoscope.measurement.maps import ImageMaps
from infoscope.measurement.ranking import Ranking
from infoscope.measurement.sample import ActiveSample

CONTENTS = "contents"


@dataclass(frozen=True)
class Ranked:
    """What the ranking pass learnt of some images; merges in any order but for `contents`.

    Attributes:
        ranking: each feature's strongest images among them.
        fit: sums behind the fit check, over the sampled images among them.
        skipped: position and reason of each image that could not be read, ascending.
        sample: with ``quantile_images`` a sample of the images each feature is active on; else None.
        contents: what each image that was passed over is like (see `Watched`), in order; empty where nobody watches.
        maps: with ``rank_view="crops"`` the maps of a shard's strongest images, by feature, then image; else None.
    """

    ranking: Ranking
    fit: FitSums
    skipped: list[tuple[int, str]]
    maps: ImageMaps | None = None
    sample: ActiveSample | None = None
    contents: UInt64[np.ndarray, " image"] = field(default_factory=lambda: np.zeros(0, np.uint64))

    def merge(self, other: Ranked) -> Ranked:
        """This and what another pass learnt of other images, without maps; neither may be used afterwards."""
        self.ranking.merge(other.ranking)
        self.fit.merge(other.fit)
        if self.sample is not None and other.sample is not None:
            self.sample.merge(other.sample)
        return Ranked(
            self.ranking,
            self.fit,
            sorted(self.skipped + other.skipped),
            sample=self.sample,
            contents=np.concatenate([self.contents, other.contents]),
        )

    def arrays(self) -> Arrays:
        """As named arrays, for a shard's file."""
        kept = {
            "score": self.ranking.score,
            "best": self.ranking.image,
            "images_active": self.ranking.images_active,
            "tokens_active": self.ranking.tokens_active,
            "seen": self.ranking.seen,
            "skipped": np.array([index for index, _ in self.skipped], np.int64),
            "reasons": np.array([reason for _, reason in self.skipped], np.str_),
            CONTENTS: self.contents,
            **{f"fit_{name}": value for name, value in self.fit.arrays().items()},
        }
        if self.sample is not None:
            kept |= {f"sample_{name}": value for name, value in self.sample.arrays().items()}
        return kept | (self.maps.arrays() if self.maps else {})

    @classmethod
    def from_arrays(cls, arrays: Arrays) -> Ranked:
        """What `arrays` gave."""
        return cls(
            Ranking(*(arrays[key] for key in ("score", "best", "images_active", "tokens_active", "seen"))),
            FitSums.from_arrays({key[4:]: value for key, value in arrays.items() if key.startswith("fit_")}),
            list(zip(arrays["skipped"].tolist(), arrays["reasons"].tolist(), strict=True)),
            ImageMaps.from_arrays(arrays) if "cells" in arrays else None,
            ActiveSample(*(arrays[f"sample_{name}"] for name in ("key", "image", "score")))
            if "sample_key" in arrays
            else None,
            arrays[CONTENTS],
        )

    def without_maps(self) -> Ranked:
        """The rest."""
        return replace(self, maps=None)
