"""Classes of features whose class is known: by hand, then drawn with the noise of the planted truth."""

from dataclasses import replace

import numpy as np
import pytest

from drawn_maps import TRUTH, judged, planted_pairs
from infoscope.scope.classes import CLASSES, class_shares
from infoscope.scope.controls import control_pairs
from infoscope.scope.geometry import Geometry, patch_distances
from infoscope.scope.maps import MapPairs, SparseMaps
from infoscope.scope.score import score_pairs
from infoscope.scope.threshold_rules import classify, share_away, share_moves

P, S, K = 12, 2, 8


def one_feature(first: np.ndarray, second: np.ndarray) -> MapPairs:
    """The pairs of one feature, from dense maps ``[pair, row, column]``."""
    count = len(first)
    return MapPairs(
        np.zeros(count, np.uint32),
        np.arange(count, dtype=np.uint16),
        np.arange(count, dtype=np.uint64),
        np.ones(count, np.float32),
        SparseMaps.from_dense(first.reshape(count, -1).astype(float)),
        SparseMaps.from_dense(second.reshape(count, -1).astype(float)),
    )


def class_of(first: np.ndarray, second: np.ndarray, shift: int = S) -> tuple[str, str]:
    _, _, _, names, evidence = judged(one_feature(first, second), first.shape[1], shift, K)
    return names[0], evidence[0]


def peaks(places: list[tuple[int, int]]) -> np.ndarray:
    maps = np.zeros((len(places), P, P))
    for pair, place in enumerate(places):
        maps[pair, *place] = 1.0
    return maps


ANYWHERE = [(3, 4), (9, 9), (5, 2), (10, 6), (2, 11), (7, 7), (11, 3), (4, 8)]
ELSEWHERE = [(8, 1), (0, 5), (9, 9), (1, 0), (6, 2), (0, 9), (3, 8), (9, 3)]


def shifted(places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same pixels in the second crop."""
    return [(row - S, column - S) for row, column in places]


def test_a_peak_on_the_same_pixels_is_local():
    name, evidence = class_of(peaks(ANYWHERE), peaks(shifted(ANYWHERE)))
    assert name == "local"
    assert "8 of 8 pairs follow the pixels" in evidence
    assert "moves 0.00 patches against the pixels, 2.83 against the crop" in evidence
    assert "calibrated score 0.00" in evidence


def test_a_peak_always_on_the_same_object_at_the_centre_is_local():
    """Unrelated pictures agree too, so there is no calibrated score; against the crop it moves as the pixels do."""
    name, evidence = class_of(peaks([(7, 7)] * K), peaks([(5, 5)] * K))
    assert name == "local"
    assert "unrelated pictures are only 0.00 patches apart" in evidence


def test_a_peak_that_jumps_is_global():
    name, evidence = class_of(peaks(ANYWHERE), peaks(ELSEWHERE))
    assert name == "global"
    assert "of 8 pairs jump" in evidence


def test_a_peak_glued_to_a_place_is_position_bound():
    name, evidence = class_of(peaks([(5, 6)] * K), peaks([(5, 6)] * K))
    assert name == "position-bound"
    assert "8 of 8 pairs stay at their place in the crop" in evidence
    assert "2.83 patches against the pixels, 0.00 against the crop" in evidence


@pytest.mark.parametrize("corner", [(0, 0), (0, P - 1), (P - 1, 0), (P - 1, P - 1)])
def test_a_peak_glued_to_a_corner_is_position_bound_without_a_score(corner):
    scores, controls, _, names, evidence = judged(one_feature(*[peaks([corner] * K)] * 2), P, S, K)
    assert np.isnan(scores.cds[0])
    assert controls.position_control[0] == 0.0
    assert names == ["position-bound"]
    assert "moves 0.00 patches against the crop; too few pairs reach the overlap for a CDS" in evidence[0]


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_a_map_that_covers_everything_is_diffuse(spread):
    rng = np.random.default_rng(0)
    first, second = 1.0 + spread * rng.random((2, K, P, P))
    name, evidence = class_of(first, second)
    assert name == "diffuse"
    assert "8 of 8 pairs keep to both alike" in evidence


def test_a_broad_map_that_follows_the_pixels_is_local():
    """Half of the picture, left or right or top or bottom, and the rest dark: unrelated pictures are far apart."""
    q = P + S
    pictures = np.zeros((K, q, q))
    for pair in range(K):
        half = slice(q // 2) if pair % 4 < 2 else slice(q // 2, q)
        if pair % 2:
            pictures[pair, half] = 1.0
        else:
            pictures[pair, :, half] = 1.0
    pictures += 1e-3
    name, _ = class_of(pictures[:, :P, :P], pictures[:, S:, S:])
    assert name == "local"


def test_one_that_jumps_out_of_the_overlap_is_global_without_a_score():
    outside = [(0, 3), (1, 9), (0, 7), (5, 0), (9, 1), (1, 1), (0, 11), (11, 0)]
    scores, _, moves, names, _ = judged(one_feature(peaks(outside), peaks(ELSEWHERE)), P, S, K)
    assert np.isnan(scores.cds[0])
    assert moves.jumping[0] >= 0.5
    assert names == ["global"]


def test_one_whose_other_half_vanishes_from_a_crop_is_global():
    """Eight pairs follow exactly and would be local; in eight more the second crop has nothing, on the same pixels."""
    first, second = peaks(ANYWHERE * 2), peaks(shifted(ANYWHERE) * 2)
    second[K:] = 0.0
    scores, controls, moves, names, evidence = judged(one_feature(first, second), P, S, 2 * K)
    assert (controls.cds_calibrated[0], scores.vanished[0], moves.following[0]) == (0.0, 0.5, 0.5)
    assert (moves.vanished[0], moves.jumping[0], moves.judged[0]) == (0.5, 0.5, 16)
    assert names == ["global"]
    assert "8 of 16 pairs follow the pixels; 8 of 16 pairs jump; 8 of 16 pairs vanish from one crop" in evidence[0]


def test_pairs_far_from_both_place_and_pixels_are_counted_alone_as_among_the_moves():
    """In order: on its pixels, at its place, far from both, off the overlap and far from its place, gone."""
    first = peaks([(3, 4), (5, 6), (3, 3), (0, 0), (6, 6)])
    second = peaks([(1, 2), (5, 6), (9, 9), (9, 9), (6, 6)])
    second[4] = 0.0
    pairs = one_feature(first, second)
    given = score_pairs(pairs, P, S), control_pairs(pairs, P, S), pairs.feature, 1, Geometry(P, S)
    assert share_away(*given)[0] == share_moves(*given).away[0] == 3 / 5
    # With a border beyond any distance only the pair that vanished is left.
    assert share_away(*given, away=9.0)[0] == share_moves(*given, away=9.0).away[0] == 1 / 5


@pytest.mark.parametrize("left", [0, 3])
def test_one_that_vanishes_from_a_crop_in_nearly_all_pairs_is_global(left):
    first, second = peaks(shifted(ANYWHERE)), peaks(ANYWHERE)
    first[left:] = 0.0
    second[left:] = peaks(ELSEWHERE)[left:]
    name, evidence = class_of(first, second)
    assert name == "global"
    assert f"{K - left} of 8 pairs vanish from one crop" in evidence
    assert f"activation in both crops in {left} images, fewer than 4" in evidence


def test_what_leaves_the_picture_with_its_pixels_has_not_vanished():
    """Half of the peaks lie in the strip that the second crop does not show: a local feature's maps are empty there."""
    inside, outside = ANYWHERE[:4], [(0, 3), (1, 9), (0, 7), (5, 0)]
    second = peaks(shifted(inside) + [(0, 0)] * 4)
    second[4:] = 0.0
    _, _, moves, names, _ = judged(one_feature(peaks(inside + outside), second), P, S, K)
    assert (moves.following[0], moves.vanished[0], moves.judged[0]) == (1.0, 0.0, 4)
    assert names == ["local"]


def test_small_moves_that_pictures_make_no_difference_to_are_not_local():
    """Halfway between following and staying, around one place: as far from its own picture as from unrelated ones."""
    middle = [(6, 6), (6, 5), (5, 6), (5, 5)] * 4
    # From each place to one step down and right on the overlap, which is one step up and left in the crop.
    second = [(row - S + 1, column - S + 1) for row, column in middle]
    scores, controls, _, names, evidence = judged(one_feature(peaks(middle), peaks(second)), P, S, 2 * K)
    geometry = Geometry(P, S)
    assert scores.cds[0] * geometry.largest == pytest.approx(2**0.5)
    assert controls.position_control[0] * geometry.full_largest == pytest.approx(2**0.5)
    assert controls.cds_calibrated[0] >= 0.75
    assert names == ["global"], evidence


@pytest.mark.parametrize(
    ("calibrated", "name"),
    [(1.0, "position-bound"), (0.75, "position-bound"), (0.74, "local"), (np.nan, "position-bound")],
)
def test_more_pairs_that_stay_than_follow_are_position_bound_unless_the_pictures_make_a_difference(calibrated, name):
    """Half of the pairs stay, half move by half of what the pixels do: too few for the first rule, but settled."""
    pairs = one_feature(peaks([(5, 6)] * K), peaks([(5, 6)] * 4 + [(4, 5)] * 4))
    scores, controls, moves, names, _ = judged(pairs, P, S, K)
    assert (moves.staying[0], moves.following[0], controls.cds_calibrated[0]) == pytest.approx((0.5, 0.0, 1.0))
    assert names == ["position-bound"]
    controls = replace(controls, cds_calibrated=np.array([calibrated]))
    assert classify(scores, controls, moves, Geometry(P, S), 4).names == [name]


@pytest.mark.parametrize(("at_home", "name"), [(5, "position-bound"), (4, "global")])
def test_a_usual_place_is_no_gluing_where_the_other_pairs_go_far(at_home, name):
    """Of the pairs that leave, two end nearer to the place than to the pixels: by chance, and far from both."""
    gone = [(9, 9), (9, 9), (0, 9), (9, 2)][: K - at_home]
    pairs = one_feature(peaks([(5, 6)] * K), peaks([(5, 6)] * at_home + gone))
    _, _, moves, names, evidence = judged(pairs, P, S, K)
    assert moves.staying[0] >= 0.75
    assert moves.away[0] == (K - at_home) / K
    assert f"{K - at_home} of 8 pairs are far from both place and pixels" in evidence[0]
    assert names == [name]


@pytest.mark.parametrize(("at_home", "name"), [(5, "local"), (4, "global")])
def test_the_usual_pixels_are_not_local_where_the_other_pairs_go_far(at_home, name):
    """All pairs follow, as they end nearer to the pixels than to the place; but some are far from both."""
    stays, gone = [(3, 4), (5, 2), (2, 11), (11, 3), (4, 8)][:at_home], [(9, 9), (10, 6), (7, 7), (8, 10)]
    gone = gone[: K - at_home]
    second = shifted(stays) + [(row - 3, column - 3) for row, column in shifted(gone)]
    _, controls, moves, names, _ = judged(one_feature(peaks(stays + gone), peaks(second)), P, S, K)
    assert (moves.following[0], moves.away[0]) == (1.0, (K - at_home) / K)
    assert controls.cds_calibrated[0] < 0.6
    assert names == [name]


def test_far_is_a_share_of_what_unrelated_patches_are_apart():
    """On the overlap of 10 x 10 unrelated patches are 0.4075 of 9 sqrt(2) apart: 5.19, and 0.45 of it are 2.33."""
    place, second = [(5, 6)] * K, [(5, 6), (5, 9), (8, 6), (3, 4), (2, 6), (9, 9), (0, 9), (6, 6)]
    moves = judged(one_feature(peaks(place), peaks(second)), P, S, K)[2]
    # Against the place and the pixels, of those that leave: 3 and 5.4, 3 and 5.4, 2.8 and 0, 3 and 2.2, 5 and 7.8, 5.8
    # and 5.8, 1 and 3.6.
    assert moves.away[0] == 4 / K


def test_a_map_without_activation_on_the_overlap_is_far_from_the_pixels():
    """It stays or is away by what it moves against the crop alone."""
    first, second = peaks([(0, 0)] * K), peaks([(0, 2)] * 4 + [(0, 3)] * 4)
    assert judged(one_feature(first, second), P, S, K)[2].away[0] == 0.5


def test_undefined():
    few, also = peaks(ANYWHERE), peaks(shifted(ANYWHERE))
    few[3:], also[4:] = 0.0, 0.0
    found = class_of(few, also)
    assert found == ("undefined", "activation in both crops in 3 images, fewer than 4, and vanished from one in 1")
    also[3:] = 0.0
    assert class_of(few, also) == ("undefined", "activation in both crops in 3 images, fewer than 4")
    name, evidence = class_of(peaks(ANYWHERE), peaks(ANYWHERE), shift=0)
    assert (name, evidence) == ("undefined", "no shift, so no map can move")
    # Three pairs stay and three jump, never on the overlap; two follow.
    first = peaks([(0, 0)] * 3 + [(0, 1), (0, 9), (1, 1)] + ANYWHERE[:2])
    second = peaks([(0, 0)] * 3 + [(0, 10), (9, 0), (11, 11)] + shifted(ANYWHERE[:2]))
    scores, _, moves, names, _ = judged(one_feature(first, second), P, S, K)
    assert np.isnan(scores.cds[0])
    assert (moves.staying[0], moves.jumping[0], names) == (0.375, 0.375, ["undefined"])


def test_by_one_patch_less_than_the_pixels_is_still_position_bound():
    name, _ = class_of(peaks([(0, 0)] * 4 + [(0, 5)] * 4), peaks([(0, 0)] * 4 + [(0, 6)] * 4))
    assert name == "position-bound"


def test_no_pairs_at_all():
    pairs = one_feature(np.zeros((K, P, P)), np.zeros((K, P, P)))
    _, _, moves, names, evidence = judged(pairs, P, S, K)
    assert names == ["undefined"]
    assert evidence == ["activation in both crops in 0 images, fewer than 4"]
    assert np.isnan(moves.jumping[0])


def test_moves_add_up_to_one():
    _, _, moves, _, _ = judged(planted_pairs("usual places", 4, k=8), 14, 2, 8)
    np.testing.assert_allclose(moves.following + moves.staying + moves.still + moves.jumping, 1.0)


def test_four_classes_under_noise():
    """Balanced accuracy over the four classes, traps included, at the noise of the planted truth."""
    right: dict[str, list[bool]] = {name: [] for name in CLASSES[:4]}
    for kind, truth in TRUTH.items():
        *_, names, _ = judged(planted_pairs(kind, 12), 14, 2, 16)
        found = [name == truth for name in names]
        assert np.mean(found) >= 0.8, (kind, names)
        right[truth] += found
        if truth == "diffuse":
            assert "local" not in names
    assert np.mean([np.mean(found) for found in right.values()]) >= 0.95


def test_geometry_is_that_of_the_distances():
    for metric in ("euclidean", "l1"):
        geometry = Geometry(9, 2, metric)
        full, overlap = patch_distances(9, metric), patch_distances(7, metric)
        assert geometry.full_largest == pytest.approx(full.max())
        assert geometry.largest == pytest.approx(overlap.max())
        assert geometry.movement == pytest.approx(full[0, 2 * 9 + 2])


def test_shares():
    assert class_shares([]) == dict.fromkeys(CLASSES, 0.0)
