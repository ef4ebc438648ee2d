"""What a feature's page shows, as a record of JSON values, a chunk of features at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float64, Int64, UInt32

from infoscope.measurement.summary import Settings
from infoscope.runtime.run import Run
from infoscope.scope.emd import TransportPlan, transport_plans
from infoscope.scope.geometry import patch_distances
from infoscope.scope.maps import SparseMaps, overlap_maps
from infoscope.views.report.explorer import QUANTITIES
from infoscope.views.report.neighbours import PATCHES_KEPT, Neighbours
from infoscope.views.report.payload import packed_map, packed_routes, rounded

# Our choice: more arrows than this hide each other, and the heaviest say where the mass went.
ROUTES_SHOWN = 16
# Our choice: galleries of some thousand features are small beside the tables, and each read passes over a whole file.
FEATURES_A_READ = 2048


@dataclass(frozen=True)
class Records:
    """Makes the records of a run's features.

    Attributes:
        run: the run.
        settings: its geometry.
        gallery: top images a feature.
        without_picture: images whose photograph is not there.
        directions: neighbours by decoder direction, or None where the SAE is not at hand.
        cofiring: neighbours by the patches they fire on together.
    """

    run: Run
    settings: Settings
    gallery: int
    without_picture: frozenset[int]
    directions: Neighbours | None
    cofiring: Neighbours | None

    def of(self, features: Sequence[int]) -> list[dict[str, Any]]:
        """The records of some features, in their order.

        Raises:
            InfoscopeError: the maps cannot be read.
        """
        rows = self._rows(features)
        pictures = self._galleries(features)
        curves, checks = (
            self._by_feature(self.run.shift_curve, features),
            self._by_feature(self.run.cross_checks, features),
        )
        images = {feature: set(self._images[feature].tolist()) - {-1} for feature in self._with_neighbours(features)}
        return [
            {
                "feature": feature,
                "values": [_plain(rows[feature][name]) for name in QUANTITIES],
                "class": rows[feature]["scope_class"],
                "evidence": rows[feature]["class_evidence"],
                "reasons": rows[feature]["trust_reasons"],
                "byK": [rounded(value) for value in rows[feature]["cds_by_k"] or []],
                "byFloor": [rounded(value) for value in rows[feature]["cds_by_floor"] or []],
                "curve": [
                    _numbers(row, ("shift", "cds", "cds_patches", "cds_ci_lower", "cds_ci_upper", "pairs", "vanished"))
                    for row in curves.get(feature, [])
                ],
                "checks": [
                    [
                        row["check"],
                        *_numbers(
                            row, ("cds", "cds_ci_lower", "cds_ci_upper", "pairs", "difference", "difference_pairs")
                        ),
                    ]
                    for row in checks.get(feature, [])
                ],
                "directions": [[other, rounded(cosine)] for other, cosine in self.directions.of(feature)]
                if self.directions
                else None,
                "cofiring": [
                    [other, rounded(cosine), len(images[feature] & images[other])]
                    for other, cosine in self.cofiring.of(feature)
                ]
                if self.cofiring
                else None,
                "gallery": pictures.get(feature, []),
                "topImages": len(set(self._images[feature].tolist()) - {-1}),
            }
            for feature in features
        ]

    @cached_property
    def _places(self) -> dict[int, int]:
        return {feature: place for place, feature in enumerate(self.run.scope["feature"].to_list())}

    def _rows(self, features: Sequence[int]) -> dict[int, dict[str, Any]]:
        rows = self.run.scope[[self._places[feature] for feature in features]]
        return {row["feature"]: row for row in rows.iter_rows(named=True)}

    @cached_property
    def _images(self) -> Int64[np.ndarray, "feature rank"]:
        """Every feature's top images, -1 where it has fewer."""
        top = self.run.top_images
        ranks = int(top["rank"].max() or 0) + 1 if top.height else 0  # type: ignore[arg-type]
        images = np.full((self.run.scope.height, ranks), -1)
        images[top["feature"].to_numpy(), top["rank"].to_numpy()] = top["image"].cast(pl.Int64).to_numpy()
        return images

    def _with_neighbours(self, features: Sequence[int]) -> set[int]:
        others = set() if self.cofiring is None else set(self.cofiring.feature[list(features)].ravel().tolist())
        return (others - {-1}) | set(features)

    def _by_feature(self, table: pl.DataFrame | None, features: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        rows: dict[int, list[dict[str, Any]]] = {}
        if table is not None:
            for row in table.filter(pl.col("feature").is_in(list(features))).iter_rows(named=True):
                rows.setdefault(row["feature"], []).append(row)
        return rows

    def _shown(self, features: Sequence[int]) -> tuple[pl.DataFrame, pl.DataFrame]:
        """Top images and maps of some features' galleries; a block of features is read at a time and kept."""
        blocks = {feature // FEATURES_A_READ for feature in features}
        chosen = pl.col("feature").is_in(list(features))
        if len(blocks) != 1:
            return self._read(chosen)
        block = blocks.pop()
        if block not in self._kept:
            self._kept.clear()
            start = block * FEATURES_A_READ
            self._kept[block] = self._read(pl.col("feature").is_between(start, start + FEATURES_A_READ - 1))
        top, maps = self._kept[block]
        return top.filter(chosen), maps.filter(chosen)

    def _read(self, features: pl.Expr) -> tuple[pl.DataFrame, pl.DataFrame]:
        wanted = features & (pl.col("rank") < self.gallery)
        return self.run.top_images.filter(wanted).sort("feature", "rank"), self.run.maps_where(wanted)

    def _galleries(self, features: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
        """The top images of each feature with both maps and where their mass moved."""
        shown, stored = self._shown(features)
        grid, shift = self.settings.grid, self.settings.shift
        first, second = (crop_maps(shown, stored, crop, grid) for crop in (0, 1))
        overlap = overlap_maps(first, second, grid, shift)
        moved = transport_plans(*overlap, self._distances)
        galleries: dict[int, list[dict[str, Any]]] = {}
        for pair, row in enumerate(shown.iter_rows(named=True)):
            galleries.setdefault(row["feature"], []).append(
                self._picture(row, _entries(first, pair), _entries(second, pair), moved[pair])
            )
        return galleries

    @cached_property
    def _kept(self) -> dict[int, tuple[pl.DataFrame, pl.DataFrame]]:
        """What `_shown` read last."""
        return {}

    @cached_property
    def _distances(self) -> Float64[np.ndarray, "cell cell"]:
        return patch_distances(self.settings.side, self.settings.metric)

    def _picture(
        self,
        row: Mapping[str, Any],
        first: tuple[np.ndarray, np.ndarray],
        second: tuple[np.ndarray, np.ndarray],
        plan: TransportPlan,
    ) -> dict[str, Any]:
        largest = float(max(values.max(initial=0.0) for _, values in (first, second)))
        shown = slice(0, ROUTES_SHOWN)
        return {
            "image": row["image"],
            "id": row["image_id"],
            "photograph": row["image"] not in self.without_picture,
            "score": rounded(row["score"]),
            "emd": rounded(row["emd"]),
            "mass": [rounded(row["mass_first"]), rounded(row["mass_second"])],
            "largest": rounded(largest),
            "maps": [packed_map(patch, value, largest) for patch, value in (first, second)],
            "routes": packed_routes(plan.source[shown], plan.sink[shown], plan.mass[shown]),
            "moved": rounded(float(plan.mass.sum())),
            "left": [max(len(plan) - ROUTES_SHOWN, 0), rounded(float(plan.mass[ROUTES_SHOWN:].sum()))],
        }


def crop_maps(shown: pl.DataFrame, maps: pl.DataFrame, crop: int, grid: int) -> SparseMaps:
    """One crop's maps on the full grid, a map for each row of ``shown``; a map without a row is empty."""
    rows = shown.select("feature", "rank").join(
        maps.filter(pl.col("crop") == crop), on=["feature", "rank"], how="left", maintain_order="left"
    )
    counts = rows["patch"].list.len().fill_null(0).to_numpy()
    entries = rows.filter(pl.col("patch").list.len() > 0).select("patch", "value").explode("patch", "value")
    return SparseMaps(
        start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        patch=entries["patch"].to_numpy(),
        value=entries["value"].to_numpy(),
        cells=grid * grid,
    )


def strongest_codes(
    run: Run, features: range, cells: int
) -> tuple[UInt32[np.ndarray, " entry"], Int64[np.ndarray, " entry"], Float64[np.ndarray, " entry"]]:
    """Feature, token and code of the strongest patches of every first crop's map, of some features.

    A token's number is that of its image times ``cells``, plus its patch.
    """
    wanted = pl.col("feature").is_between(features.start, features.stop - 1)
    first = run.maps_where(wanted & (pl.col("crop") == 0)).join(
        run.top_images.filter(wanted).select("feature", "rank", "image"), on=["feature", "rank"]
    )
    entries = first.filter(pl.col("patch").list.len() > 0).explode("patch", "value")
    order = pl.struct(-pl.col("value"), pl.col("patch")).rank("ordinal").over("feature", "rank")
    kept = entries.filter(order <= PATCHES_KEPT)
    token = kept["image"].cast(pl.Int64) * cells + kept["patch"].cast(pl.Int64)
    return kept["feature"].to_numpy(), token.to_numpy(), kept["value"].cast(pl.Float64).to_numpy()


def _entries(maps: SparseMaps, index: int) -> tuple[np.ndarray, np.ndarray]:
    entries = slice(maps.start[index], maps.start[index + 1])
    return maps.patch[entries], maps.value[entries]


def _plain(value: Any) -> Any:
    return value if isinstance(value, bool) else rounded(value)


def _numbers(row: Mapping[str, Any], names: Sequence[str]) -> list[float | int | None]:
    return [rounded(row[name]) for name in names]
