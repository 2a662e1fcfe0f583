#!/usr/bin/env bash
# Waits until training is done, at most $1 seconds, and packs what there is.
end=$(($(date +%s) + $1))
while [ "$(date +%s)" -lt "$end" ] && ! grep -q " ALL" /root/work/progress.txt; do sleep 1; done
cat /root/work/progress.txt; tail -3 /root/work/control.log
cd /root/tree && PYTHONPATH=/root/tree python3 .ci/gpu/train.py pack
