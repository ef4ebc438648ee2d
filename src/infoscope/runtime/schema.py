"""The columns of a run's tables, each declared once: what is written, checked, shown and documented follows from it.

A new column takes an entry here, with ``since``, and a value where its table is made: `infoscope.measurement.tables`.
"""

from __future__ import annotations

from functools import partial

import polars as pl

from infoscope.options import CLASSES
from infoscope.runtime.columns import Column, declare

# What ``check`` may be.
CHECKS = ("pre-activations", "position-matched", "other-diagonal", "quantiles")

_D = "share of the grid diagonal, 0 to 1"
_SHORT_D = "share of D, 0 to 1"
_like_cds = partial(Column, pl.Float64, "as cds", shown_unit=_SHORT_D)
_share = partial(Column, pl.Float64, "share, 0 to 1")
_fraction = partial(Column, pl.Float64, "0 to 1")
_ratio = partial(Column, pl.Float64, "ratio")
_patches = partial(Column, pl.Float64, "patches")
_count = partial(Column, pl.UInt32, "count")
_text = partial(Column, pl.String, "")
_FEATURE = Column(pl.UInt32, "index", "feature of the dictionary", required=True)


def _chance(name: str) -> Column:
    return Column(
        pl.Float64,
        "0 to 1",
        f"posterior of the class {name}; what the five leave to 1 is in no class; null under rule_version 1",
        label=f"posterior, {name}",
        panel="controls",
        on_card=False,
        since="0.1.0",
    )


SCOPE = declare(
    {
        "feature": Column(pl.UInt32, "index", "feature of the dictionary, ascending", required=True),
        "cds": Column(
            pl.Float64,
            _D,
            "Contextual Dependency Score: mean earth mover's distance between the two crops' normalised maps "
            "on the overlap, over the valid pairs; null when fewer than min_pairs pairs are valid",
            label="CDS",
            shown_unit=_SHORT_D,
        ),
        "cds_ci_lower": _like_cds(
            "lower end of the 95 % bootstrap-t interval over pairs, given the pool's top images", label="CDS, lower end"
        ),
        "cds_ci_upper": _like_cds("upper end of the same interval", label="CDS, upper end"),
        "pairs": _count(
            "valid pairs: top images with mass on the overlap in both crops; with empty_as one "
            "also those with mass in exactly one, which count as a distance of 1",
            required=True,
            label="valid pairs",
        ),
        "vanished": _share(
            "share of the top images with mass on the overlap in exactly one crop; null without top images",
            panel="controls",
        ),
        "retention": _ratio(
            "the smaller of the two overlap maxima over the ranking score (under rank_by mean or sum: over the larger "
            "of the crops' peaks), mean over the top images",
            panel="controls",
        ),
        "cds_retained": _like_cds(
            "cds over the valid pairs with retention of at least 0.5; null as cds is",
            label="CDS, retained pairs",
            panel="controls",
        ),
        "max_activation": Column(
            pl.Float32,
            "code",
            "the ranking score of the feature's strongest image; 0 when it never fires",
            required=True,
            label="largest activation",
            panel="companions",
        ),
        "images_active": _count(
            "images of the pool with a ranking score above 0",
            required=True,
            label="active images",
            panel="companions",
            on_card=False,
        ),
        "density": _share(
            "share of the pool's patch tokens with a code above 0, in the ranking's view",
            required=True,
            panel="companions",
            on_card=False,
        ),
        "effective_area": _patches(
            "exp of the entropy of the normalised overlap map, mean of both crops, mean over the valid pairs",
            panel="companions",
        ),
        "cosine_distance": _fraction(
            "1 - cosine of the two overlap maps, mean over the valid pairs", panel="companions"
        ),
        "mass_ratio": _fraction(
            "smaller over larger mass on the overlap, mean over the valid pairs", panel="companions"
        ),
        "position_control": Column(
            pl.Float64,
            "share of the full grid's largest distance, 0 to 1",
            "earth mover's distance between the two crops' full normalised maps at equal places of the crops, mean "
            "over the pairs with mass in both; null with fewer than min_pairs of them",
            shown_unit="share of the full grid, 0 to 1",
            panel="controls",
        ),
        "position_pairs": _count(
            "top images with mass anywhere in both crops",
            required=True,
            label="pairs of the position control",
            panel="controls",
            on_card=False,
        ),
        "cds_null": _like_cds(
            "cds of unrelated pictures: first map of each valid pair against the second of the next, cyclic; "
            "null with fewer than two valid pairs",
            label="CDS of unrelated pictures",
            panel="controls",
        ),
        "cds_calibrated": _ratio(
            "cds over cds_null, over the valid pairs even where others count as 1; null with fewer than min_pairs, "
            "where cds_null is, and where that is under half a patch",
            label="calibrated score",
            panel="controls",
        ),
        "retained_disagrees": Column(
            pl.Boolean,
            "",
            "whether cds_retained lies outside the interval of cds; null where either is null",
            label="retained score disagrees",
            panel="controls",
            on_card=False,
        ),
        "cds_even": _like_cds(
            "cds over the images of even rank; null with fewer valid pairs than half of min_pairs",
            label="CDS, even ranks",
            panel="controls",
        ),
        "cds_odd": _like_cds("likewise over the images of odd rank", label="CDS, odd ranks", panel="controls"),
        "cds_by_k": Column(
            pl.List(pl.Float64),
            "as cds",
            "cds over the first 1, 2, 4, 8, ... and all k images; null where fewer of their pairs are valid than "
            "min_pairs in proportion",
        ),
        "cds_by_floor": Column(
            pl.List(pl.Float64),
            "as cds",
            "cds when codes under 0.1, 0.25 and 0.5 of each map's maximum count as 0; for at most 256 features spread "
            "evenly, null for the others",
        ),
        "cds_noise": _like_cds(
            "what cds would be if the feature were local and nothing but code noise differed between the crops: mean "
            "distance between a map and copies of it whose codes are lost, changed and joined by new ones at the "
            "chances of code_noise.json; null with fewer than min_pairs pairs, and where code noise was not measured",
            label="CDS of code noise",
            panel="controls",
            since="0.1.0",
        ),
        "cds_excess": Column(
            pl.Float64,
            "as cds, -1 to 1",
            "cds over the valid pairs minus the 95 % point of cds_noise; above 0 the maps move more than code noise "
            "explains; null where cds_noise is",
            label="excess over code noise",
            shown_unit="share of D, -1 to 1",
            panel="controls",
            since="0.1.0",
        ),
        "entropy": Column(
            pl.Float64,
            "nats",
            "of the normalised overlap map, mean of both crops, mean over the valid pairs",
            panel="companions",
            on_card=False,
        ),
        "participation": _patches(
            "1 over the sum of squares of the normalised overlap map, mean of both crops, mean over the valid pairs",
            label="participation ratio",
            panel="companions",
        ),
        "gyration": _patches(
            "root mean squared distance of the overlap map from its own centre, mean of both crops, mean over the "
            "valid pairs",
            label="radius of gyration",
            panel="companions",
        ),
        "moran": Column(
            pl.Float64,
            "-1 to 1",
            "Moran's I of the overlap map, weight 1 between each patch and the up to eight around it, mean of both "
            "crops, mean over the valid pairs; null where maps are even",
            label="Moran's I",
            panel="companions",
        ),
        "peak_displacement": _patches(
            "ground distance between the peaks of both overlap maps, mean over the valid pairs", panel="companions"
        ),
        "support_iou": _fraction(
            "patches above 0 in both overlap maps over those above 0 in either, mean over the valid pairs",
            label="support IoU",
            panel="companions",
        ),
        "jensen_shannon": Column(
            pl.Float64,
            "bits, 0 to 1",
            "Jensen-Shannon divergence of the normalised overlap maps, mean over the valid pairs",
            label="Jensen-Shannon divergence",
            panel="companions",
        ),
        "displaced": _share(
            "mass on the overlap that is two patches or more from where it was on the other crop's pixels (one patch "
            "off counts half), mean over the valid pairs; null with fewer than two",
            label="displaced mass",
            panel="controls",
            since="0.1.0",
        ),
        "displaced_place": _share(
            "the same at equal places of the two crops, on the full grid, over the pairs with mass in both",
            label="displaced mass, at equal places",
            panel="controls",
            since="0.1.0",
        ),
        "displaced_null": _share(
            "the same between unrelated pictures, as cds_null",
            label="displaced mass, unrelated pictures",
            panel="controls",
            since="0.1.0",
        ),
        "displaced_noise": _share(
            "what code noise alone would displace if the feature were local, as cds_noise; 0 where not measured",
            label="displaced mass, code noise",
            panel="controls",
            since="0.1.0",
        ),
        "displacement": _ratio(
            "(displaced - displaced_noise) / (displaced_null - displaced_noise): 0 where code noise explains it, 1 "
            "where no more stays than between unrelated pictures; null where noise displaces over 0.8 of what they do",
            panel="controls",
            since="0.1.0",
        ),
        "displacement_error": _ratio(
            "its standard error over pairs", label="displacement, standard error", panel="controls", since="0.1.0"
        ),
        "displacement_following": _ratio(
            "the displacement of the pairs that follow alone; null with fewer than two such pairs too",
            label="displacement of pairs that follow",
            panel="controls",
            since="0.1.0",
        ),
        "displacement_following_error": _ratio(
            "its standard error over pairs",
            label="displacement of pairs that follow, standard error",
            panel="controls",
            since="0.1.0",
        ),
        "noise_jumps": _share(
            "pairs that code noise alone would make jump if the feature were local; 0 where noise was not measured",
            label="pairs that jump by code noise",
            panel="controls",
            since="0.1.0",
        ),
        "pairs_following": _share(
            "pairs that kept to their pixels (rule_version 3 and 4: at most 0.8 of what unrelated pictures displace is "
            "displaced there, and at most 0.8 of what is displaced at equal places, or these are not kept; 2: "
            "likewise, with a lower border; 1: moved against the pixels at most 0.8 of what they moved against the "
            "crop); of those with mass in both full maps or vanished (mass on the overlap in one crop, none anywhere "
            "in the other), and so are the next three",
            label="pairs that follow the pixels",
            panel="moves",
        ),
        "pairs_staying": _share(
            "pairs that kept to their place in the crop: the same with pixels and places exchanged",
            label="pairs that stay at their place in the crop",
            panel="moves",
        ),
        "pairs_still": _share(
            "pairs that kept to both alike (rule_version 1: moved at most 0.8 of the movement of the pixels both ways)",
            label="pairs that keep to both alike",
            panel="moves",
        ),
        "pairs_jumping": _share(
            "pairs that did none of these, the vanished ones among them",
            label="pairs that jump or vanish",
            panel="moves",
        ),
        "posterior_local": _chance("local"),
        "posterior_diffuse": _chance("diffuse"),
        "posterior_position_bound": _chance("position-bound"),
        "posterior_global": _chance("global"),
        "posterior_mixed": _chance("mixed"),
        "scope_class": _text(
            "local, diffuse, position-bound, global or mixed: what has a posterior of at least 0.9; unsettled: no "
            "class has; undefined: too few pairs are valid for a CDS, and not position-bound. Under rule_version 1, "
            "the first rule that holds",
            required=True,
            choices=CLASSES,
        ),
        "class_evidence": _text("what speaks for the class", required=True),
        "class_even": _text("the class by the images of even rank alone (0, 2, ...)", choices=CLASSES, since="0.1.0"),
        "class_odd": _text("the class by the images of odd rank alone", choices=CLASSES, since="0.1.0"),
        "trust": _fraction(
            "the chance that as many other images would give the same class; null where there is none. Under "
            "rule_version 1, a product of five factors and no probability"
        ),
        "trust_reasons": _text("what trust comes from", required=True),
    }
)

TOP_IMAGES = declare(
    {
        "feature": _FEATURE,
        "rank": Column(pl.UInt16, "index", "0 is the strongest image; ties go to the lower image index", required=True),
        "image": Column(pl.UInt64, "index", "position of the image in the source's order", required=True),
        "image_id": _text("path relative to the source, or the source's own name for it", required=True),
        "score": Column(
            pl.Float32, "code", "the ranking score of the image (option rank_by, in the view rank_view)", required=True
        ),
        "mass_first": Column(pl.Float32, "code", "sum of the first crop's codes on the overlap", required=True),
        "mass_second": Column(pl.Float32, "code", "sum of the second crop's codes on the overlap", required=True),
        "emd": Column(
            pl.Float64, _D, "earth mover's distance between the normalised overlap maps; null when either has no mass"
        ),
    }
)

MAPS = declare(
    {
        "feature": _FEATURE,
        "rank": Column(pl.UInt16, "index", "the top image, as in top_images", required=True),
        "crop": Column(pl.UInt8, "index", "0: the crop at (0, 0); 1: the crop shifted down and right", required=True),
        "patch": Column(
            pl.List(pl.UInt16),
            "index",
            "patches with a code above 0, row-major on the full p x p grid of the crop",
            required=True,
        ),
        "value": Column(pl.List(pl.Float32), "code", "the codes of those patches", required=True),
    }
)

SHIFT_CURVE = declare(
    {
        "feature": _FEATURE,
        "shift": Column(
            pl.UInt16, "patches", "s, patches between the two crops, ascending within a feature", required=True
        ),
        "cds": Column(
            pl.Float64, _D, "as in scope.parquet, on the overlap of crops s patches apart, of the same top images"
        ),
        "cds_patches": _patches("the same distance in patches: cds times this overlap's diagonal D"),
        "cds_ci_lower": _like_cds("lower end of the 95 % bootstrap-t interval over pairs"),
        "cds_ci_upper": _like_cds("upper end of the same interval"),
        "pairs": _count("valid pairs at this shift"),
        "vanished": _share("as in scope.parquet, at this shift"),
    }
)

CROSS_CHECKS = declare(
    {
        "check": _text(
            "what the score is made from: pre-activations, position-matched, other-diagonal or quantiles",
            choices=CHECKS,
        ),
        "feature": _FEATURE,
        "cds": Column(pl.Float64, _D, "this check's score", shown_unit=_SHORT_D),
        "cds_ci_lower": _like_cds("lower end of its 95 % bootstrap-t interval over pairs"),
        "cds_ci_upper": _like_cds("upper end of the same interval"),
        "pairs": _count("its valid pairs"),
        "vanished": _share("its images with mass on the overlap in exactly one crop"),
        "effective_area": _patches("as in scope.parquet, of these maps"),
        "difference": Column(
            pl.Float64,
            "as cds, -1 to 1",
            "the score of scope.parquet minus this one, over the images where both are valid; null when these are "
            "fewer than min_pairs, and for quantiles, whose images are others",
        ),
        "difference_pairs": _count("images behind the difference; null for quantiles"),
    }
)
