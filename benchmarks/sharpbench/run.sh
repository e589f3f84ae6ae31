#!/usr/bin/env bash
# Measures the pixel_student that ../real_input/run.sh trained from scratch on SharpBench's quick selection,
# beside the baselines. Needs SHARPKD_DATA (eval/Set5, eval/Set14, eval/Kodak24) and SHARPKD_WEIGHTS
# (squeezenet1_1.pth). Six to nine minutes on two cores; called again it takes up what is measured.
# Then `python benchmarks/sharpbench/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with eval/}" "${SHARPKD_WEIGHTS:?names the folder with squeezenet1_1.pth}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
exec "${PYTHON:-.venv/bin/python}" -m sharpkd.evaluate benchmark=sharpbench_quick name=quick \
    "model={student:$SHARPKD_OUTPUTS/scratch/pixel_student/net.safetensors}"
