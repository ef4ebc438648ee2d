#!/usr/bin/env bash
# Outlier tokens in trained weights, and what CDS makes of them (docs/phenomenon.md).
#
#   reproductions/moved_registers.sh MODEL TRAIN POOL OUT
#
#   MODEL  a model with registers, one of which is an outlier
#   TRAIN  photographs, a folder a class: the SAEs are trained on them
#   POOL   other photographs, a folder a class: everything is measured on them
#   OUT    a folder to write; what is finished there is kept
#
# PATCHES ("0 1 4"; with 0 the registers are left out and nothing is moved), BLOCKS ("6 8 10"), BLOCK (8, where the
# model is looked at as it was trained), FEATURES (2048), K (32), TOKENS (1000000) and TOP_IMAGES (32) in the environment
# choose others; MEASURE holds further options of `infoscope measure`.
set -euo pipefail
model=${1:?give MODEL TRAIN POOL OUT} train=${2:?give TRAIN} pool=${3:?give POOL} out=${4:?give OUT}
infoscope=${INFOSCOPE:-infoscope}
mkdir -p "$out"

[ -f "$out/as-trained/outliers.json" ] ||
    $infoscope outliers --model "$model" --images "$pool" --labels folder --block "${BLOCK:-8}" --out "$out/as-trained"
runs=()
for patches in ${PATCHES:-0 1 4}; do
    moved=$out/moved-$patches
    [ -f "$moved/model.safetensors" ] ||
        $infoscope park --model "$model" --images "$train" --patches "$patches" --out "$moved"
    for block in ${BLOCKS:-6 8 10}; do
        sae=$out/sae-$patches-$block run=$out/run-$patches-$block
        [ -f "$sae/sae.json" ] || $infoscope train --model "$moved" --block "$block" --images "$train" \
            --features "${FEATURES:-2048}" --k "${K:-32}" --tokens "${TOKENS:-1000000}" --out "$sae"
        $infoscope measure --sae "$sae" --images "$pool" --top-images "${TOP_IMAGES:-32}" --out "$run" ${MEASURE:-}
        [ -f "$run/outliers/outliers.json" ] || $infoscope outliers "$run" --labels folder --cutoff valley
        runs+=("$run")
    done
done
echo "next: python benchmarks/phenomenon.py ${runs[*]} --beside $out/as-trained --chart phenomenon.svg"
