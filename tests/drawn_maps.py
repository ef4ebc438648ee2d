"""Pairs of maps of features whose class is known, drawn with numpy alone.

On the terms of the method's planted truth (section 9): noise of 0.3 of the peak on every patch, codes under 0.7 of the
peak not kept, a tenth of the images with the feature where it does not belong, top images by their maximum. Textures
are smooth random fields in place of photographs.
"""

from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from infoscope.scope.classes import Moves, ScopeClass
from infoscope.scope.controls import FeatureControls, control_features, control_pairs
from infoscope.scope.geometry import Geometry
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import FeatureScores, score_features, score_pairs
from infoscope.scope.threshold_rules import classify, share_moves

TRUTH = {
    "blob": "local",
    "two distant blobs": "local",
    "blob near the centre": "local",
    "any quiet patches": "global",
    "usual places": "global",
    "flattest patches": "global",
    "block": "position-bound",
    "block in a corner": "position-bound",
    "everywhere": "diffuse",
}


def crops(kind: str, rng: np.random.Generator, p: int, s: int, feature: dict[str, Any]) -> list[np.ndarray]:
    """Both crops of one image, without noise."""
    q, strength = p + s, float(np.clip(rng.normal(0.9, 0.3), 0.3, 1.0))
    picture = np.zeros((q, q))
    if kind in ("blob", "two distant blobs", "blob near the centre"):
        centre = np.full(2, q / 2) + rng.normal(0, 2.0, 2) if "centre" in kind else rng.uniform(1, q - 2, 2)
        spots = [centre]
        if kind.startswith("two"):
            spots.append((centre + q / 2) % q)
        place = np.indices((q, q)).reshape(2, -1).T
        for spot in spots:
            near = np.argsort(((place - spot) ** 2).sum(1))[: rng.integers(6, 13)]
            picture[tuple(place[near].T)] = strength
        return [picture[:p, :p], picture[s:, s:]]
    texture = gaussian_filter(rng.normal(size=(q, q)), 1.2)
    out = []
    for view in (texture[:p, :p], texture[s:, s:]):
        crop = np.zeros(p * p)
        flat = np.argsort(view.ravel())
        usual = rng.random() < 0.7
        if kind == "everywhere":
            crop[:] = strength
        elif kind.startswith("block"):
            rows = np.arange(feature["top"], feature["top"] + 3)[:, None] * p
            crop[(rows + np.arange(feature["left"], feature["left"] + 3)).ravel()] = strength
        elif kind == "usual places" and usual:
            crop[feature["places"]] = strength
        elif kind == "flattest patches" and usual:
            crop[flat[:5]] = strength
        else:
            crop[rng.permutation(flat[: p * p // 4])[:5]] = strength
        out.append(crop.reshape(p, p))
    return out


def planted_pairs(
    kind: str, features: int, k: int = 16, p: int = 14, s: int = 2, noise: float = 0.3, seed: int = 0
) -> MapPairs:
    """The top images' pairs of some features of one kind."""
    rng = np.random.default_rng(seed)
    first, second, score = [], [], []

    def coded(crop: np.ndarray) -> np.ndarray:
        values = crop + rng.normal(0, noise, crop.shape)
        return np.where(values > 0.7, values, 0.0)

    for number in range(features):
        corner = [(0, 0), (0, p - 3), (p - 3, 0), (p - 3, p - 3)][number % 4]
        top, left = corner if "corner" in kind else rng.integers(0, p - 2, 2)
        feature = {"top": top, "left": left, "places": rng.permutation(p * p)[:5]}
        pool = []
        for _ in range(3 * k):
            pair = crops(kind, rng, p, s, feature)
            if rng.random() < 0.1:
                height = pair[0].max()
                for crop in pair:
                    crop[:] = 0.0
                    crop[tuple(rng.integers(0, p, 2))] = height
            pool.append((float(coded(pair[0]).max()), coded(pair[0]), coded(pair[1])))
        for found in sorted(pool, key=lambda image: -image[0])[:k]:
            score.append(max(found[0], 1e-3))
            first.append(found[1])
            second.append(found[2])
    count = features * k
    owner, rank = np.divmod(np.arange(count), k)
    return MapPairs(
        feature=owner.astype(np.uint32),
        rank=rank.astype(np.uint16),
        image=np.arange(count, dtype=np.uint64),
        score=np.array(score, np.float32),
        first=SparseMaps.from_dense(np.array(first).reshape(count, -1)),
        second=SparseMaps.from_dense(np.array(second).reshape(count, -1)),
    )


def judged(
    pairs: MapPairs, p: int, s: int, k: int, min_pairs: int | None = None
) -> tuple[FeatureScores, FeatureControls, Moves, list[ScopeClass], list[str]]:
    """Scores, controls, moves, classes and evidence of all features of some pairs."""
    geometry, least = Geometry(p, s), (k + 1) // 2 if min_pairs is None else min_pairs
    features = int(pairs.feature.max()) + 1
    pair_scores, pair_controls = score_pairs(pairs, p, s), control_pairs(pairs, p, s)
    scores = score_features(pair_scores, pairs.feature, features, least)
    controls = control_features(
        pair_controls, pair_scores, scores, pairs.feature, pairs.rank, k, least, geometry.largest
    )
    moves = share_moves(pair_scores, pair_controls, pairs.feature, features, geometry)
    classes = classify(scores, controls, moves, geometry, least)
    return scores, controls, moves, classes.names, classes.evidence
