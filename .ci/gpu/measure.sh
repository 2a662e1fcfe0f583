#!/usr/bin/env bash
# First call: the shipped weights are put aside for the second, an epoch is timed, the rows of a GPU are measured.
export PYTHONPATH=$PWD:$PWD/.carry/1 PYTHONUNBUFFERED=1
cp .carry/1/weights/* weights/
mkdir -p /root/shipped /root/work
cp weights/* /root/shipped/
ln -sfn ../weights featurepipe/shipped
nvidia-smi | sed -n 10,14p
timeout 50 python3 .ci/gpu/epoch.py /root/work/epoch
only=(); for row in vgg16-rate mmod-gpu pipeline-fer-vgg pipeline-stored-boxes pipeline-vgg-face linear-svm-gpu; do only+=(--only $row); done
timeout 90 python3 -m featurepipe bench --device cuda --photos .carry/1/photos.csv "${only[@]}" 2>&1 | tee "$OUT/bench.txt"
