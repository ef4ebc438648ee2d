#!/usr/bin/env bash
# What the scripts beside this one share: measure a CLIP model's SAE, probe it on three tasks, print the table.
set -euo pipefail
reported=$1 model=$2 sae=$3 imagenet=$4 ade20k=$5 nyu=$6 out=$7 row=${8:-}
infoscope=${INFOSCOPE:-infoscope}

if [ -z "$sae" ]; then
    # No SAE of this very model is published that infoscope can read: train one at the last block but one.
    sae=$out/sae
    [ -f "$sae/sae.json" ] || $infoscope train --model "$model" --block "${BLOCK:--2}" --images "$imagenet/train" --out "$sae"
fi
where=(--model "$model")
[ -z "${BLOCK:-}" ] || where+=(--block "$BLOCK")
$infoscope measure --sae "$sae" "${where[@]}" --images "$imagenet/val" --out "$out/scope" ${MEASURE:-}

removed=(--remove high-CDS --remove low-CDS)
[ -z "$row" ] || removed=(--remove "$row")
options=(--sites ${SITES:-rerun} --recipe "${RECIPE:-dinov2}" --disk-gib "${DISK_GIB:-250}" "${removed[@]}" ${PROBE:-})
probes=$out/probes${row:+-$row}
$infoscope probe "$out/scope" --task classification --data "$imagenet" "${options[@]}" --out "$probes/classification"
$infoscope probe "$out/scope" --task segmentation --data "$ade20k" "${options[@]}" --out "$probes/segmentation"
$infoscope probe "$out/scope" --task depth --data "$nyu" "${options[@]}" --out "$probes/depth"
$infoscope table "$probes/classification" "$probes/segmentation" "$probes/depth" --reported "$reported" ${row:+--row "$row"}
