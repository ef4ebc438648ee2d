#!/usr/bin/env bash
# Makes all that the demo brings along, from nothing: two hours or so on two cores. A step that was stopped goes on when
# the script is called again.
#   build.sh TEACHER LABELLED UNLABELLED VAL SKIMAGE_DATA WORK
# TEACHER: DINOv2 ViT-S/14 with registers, in Hugging Face layout. LABELLED and VAL: Imagenette's train and val, a folder
# a class. UNLABELLED: more photographs (CamVid's train). SKIMAGE_DATA: skimage/data of scikit-image 0.26.0. WORK: a
# folder for what is in between, some 2 GB.
set -euo pipefail
teacher=$(realpath "$1") labelled=$(realpath "$2") unlabelled=$(realpath "$3") val=$(realpath "$4")
sources=$(realpath "$5") work=$(realpath -m "$6")
cd "$(dirname "$0")"
python=${PYTHON:-python3}
data=../../src/infoscope/demo/data

"$python" views.py --teacher "$teacher" --labelled "$labelled" --unlabelled "$unlabelled" --views 2 --out "$work/views"
"$python" distil.py --views "$work/views" --teacher "$teacher" --out "$work/student"
mkdir -p "$data"
cp -r "$work/student/model" "$data/"

"$python" photographs.py --source "$sources" --out "$data/photographs"
"$python" photographs.py --source "$sources" --out "$work/other-crops" --seed 1
"$python" embeddings.py --trained "$work/student" --crops "$work/other-crops" --out "$data"

# Where the SAE says that it comes from is a place on no machine in particular.
mkdir -p "$work/sae-from"
ln -sfn "$(realpath "$data/model")" "$work/sae-from/model"
ln -sfn "$(realpath "$labelled")" "$work/sae-from/imagenette-train"
(cd "$work/sae-from" && "$python" -m infoscope.cli.main train --model model --block 3 --images imagenette-train \
    --features 768 --k 16 --tokens 588000 --out sae)
mkdir -p "$data/sae"
cp "$work/sae-from/sae/sae.safetensors" "$data/sae/"
sed 's#"model": "/[^"]*"#"model": "model"#' "$work/sae-from/sae/sae.json" >"$data/sae/sae.json"

"$python" evaluate.py --model "$data/model" --classes "$data/classes.safetensors" \
    --train "$labelled" --val "$val" --out figures.json
cp "$work/student/"{losses.csv,training.json} .
