#!/usr/bin/env bash
# Second call: training in the background, to end in $1 seconds; the GPU's tests beside it; back after $2 seconds.
begin=$(date +%s)
rm -rf /root/tree; mkdir -p /root/tree
cp -r featurepipe tests pyproject.toml setup.cfg weights bin .ci .carry/2/face_recognition_models /root/tree/
python3 .ci/gpu/carry.py --unpack .carry/2 /root/fer2013.npz
cd /root/tree || exit
rm -rf featurepipe/shipped; ln -s /root/shipped featurepipe/shipped
export PYTHONPATH=$PWD PYTHONUNBUFFERED=1 OMP_NUM_THREADS=3 WORK=/root/work FER2013=/root/fer2013.npz
export BEGIN=$begin DEADLINE=$((begin + $1)) EPOCH=$(cat /root/work/epoch || echo 0.75)
setsid nohup python3 .ci/gpu/train.py > /root/work/control.log 2>&1 < /dev/null &
timeout 240 python3 -m pytest -q -p no:cacheprovider tests/test_gpu.py > "$OUT/tests.txt" 2>&1
tail -5 "$OUT/tests.txt"
bash .ci/gpu/wait.sh $((begin + $2 - $(date +%s)))
