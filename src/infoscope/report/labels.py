"""What people call the columns of a run."""

from __future__ import annotations

# The others go by their names.
LABELS = {
    "cds": "CDS",
    "cds_ci_lower": "CDS, lower end",
    "cds_ci_upper": "CDS, upper end",
    "cds_retained": "CDS, retained pairs",
    "cds_null": "CDS of unrelated pictures",
    "cds_calibrated": "calibrated score",
    "cds_even": "CDS, even ranks",
    "cds_odd": "CDS, odd ranks",
    "pairs": "valid pairs",
    "pairs_following": "pairs that follow",
    "pairs_staying": "pairs that stay",
    "pairs_still": "pairs that hardly move",
    "pairs_jumping": "pairs that jump",
    "position_pairs": "pairs of the position control",
    "moran": "Moran's I",
    "gyration": "radius of gyration",
    "participation": "participation ratio",
    "support_iou": "support IoU",
    "jensen_shannon": "Jensen-Shannon divergence",
    "max_activation": "largest activation",
    "images_active": "active images",
    "retained_disagrees": "retained score disagrees",
    "outlier_activation": "mean code, outlier tokens",
    "normal_activation": "mean code, other tokens",
}
