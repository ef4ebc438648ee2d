#!/usr/bin/env bash
# The rows of the paper's table for CLIP-B/16 (docs/method.md, section 7), ours beside "as reported (secondary source)".
#
#   reproductions/clip-b16.sh IMAGENET ADE20K NYU OUT [ROW]
#
#   IMAGENET  a folder with train/<wnid>/ and val/ (with the devkit near it, or val/<wnid>/)
#   ADE20K    ADEChallengeData2016
#   NYU       nyu_depth_v2_labeled.mat, or the folder that holds it with splits.mat
#   OUT       a folder to write; what is finished there is kept
#   ROW       nothing, high-CDS or low-CDS; all three without
#
# MODEL, SAE, BLOCK, SITES, RECIPE and DISK_GIB in the environment choose others (features of all variants on ImageNet
# take some 250 GB; with less, the images are passed over more often); MEASURE and PROBE hold further options of
# `infoscope measure` and `infoscope probe`.
set -euo pipefail
imagenet=${1:?give IMAGENET ADE20K NYU OUT} ade20k=${2:?give ADE20K} nyu=${3:?give NYU} out=${4:?give OUT} row=${5:-}
exec "$(dirname "$0")/paper_row.sh" clip-b16 "${MODEL:-openai/clip-vit-base-patch16}" "${SAE:-osunlp/SAE_CLIP_24K_ViT-B-16_IN1K}" "$imagenet" "$ade20k" "$nyu" "$out" "$row"
