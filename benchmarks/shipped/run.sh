#!/usr/bin/env bash
# Trains the students that come with the package (fast, balanced, quality; or those that are named), and measures them
# on SharpBench's quick selection, blind. Needs SHARPKD_DATA (train/photos, Set5, Set14 and Kodak24 in eval/) and
# SHARPKD_WEIGHTS (squeezenet1_1.pth). Some hours on one core, most of it `quality`; call it again after an interruption.
# Then `python benchmarks/shipped/collect.py` copies the weights to sharpkd/weights and the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}" "${SHARPKD_WEIGHTS:?names the folder with squeezenet1_1.pth}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}

declare -A settings=(
    [fast]="trainer.max_steps=4000"
    [balanced]="trainer.max_steps=5000"
    [quality]="trainer.max_steps=5000 optimizer.lr=0.0006"
)
sizes=("$@")
[ $# -gt 0 ] || sizes=(fast balanced quality)

models=
for size in "${sizes[@]}"; do
    run=$SHARPKD_OUTPUTS/ship/$size
    # shellcheck disable=SC2086  # several settings
    grep -qs '"state": "finished"' "$run/status.json" || "$python" -m sharpkd.train experiment=ship "net=$size" \
        "run=$size" "data.train_dir=$SHARPKD_DATA/train/photos" data=folder trainer=cpu resume=auto ${settings[$size]}
    models+=,$size:$run/net.safetensors
done
# no milliseconds: they would be those of torch, in which nobody runs these nets
"$python" -m sharpkd.evaluate benchmark=sharpbench_quick benchmark.speed=null name=shipped "model={${models#,}}"
