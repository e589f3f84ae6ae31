#!/usr/bin/env bash
# Measures the students that ../real_input/run.sh trained from scratch on SharpBench's quick selection, beside the
# baselines, and the pixel_student on all of it. Needs SHARPKD_DATA (eval/Set5, eval/Set14, eval/Kodak24,
# eval/BSD100, eval/Urban100_25) and SHARPKD_WEIGHTS (squeezenet1_1.pth). About half an hour on two cores,
# most of it the baselines of the whole benchmark; called again it takes up what is measured.
# Then `python benchmarks/sharpbench/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with eval/}" "${SHARPKD_WEIGHTS:?names the folder with squeezenet1_1.pth}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}

evaluate() { # name, benchmark, nets
    local models=
    for net in "${@:3}"; do models+=${models:+,}$net:$SHARPKD_OUTPUTS/scratch/$net/net.safetensors; done
    "$python" -m sharpkd.evaluate "benchmark=$2" "name=$1" "model={$models}"
}

evaluate quick sharpbench_quick pixel_student mobile_student enhanced_cnn
evaluate full sharpbench pixel_student
