#!/usr/bin/env bash
# Fits the estimator of blur and noise that ships (sharpkd/weights/estimator.safetensors) and measures it on Set14,
# Kodak24 and BSD100. Needs SHARPKD_DATA (train/photos, eval/Set14, eval/Kodak24, eval/BSD100). About ten minutes on
# one core. The tensors come out the same every time; the file's metadata may change places.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs} OMP_NUM_THREADS=1
python=${PYTHON:-.venv/bin/python}
runs=$SHARPKD_OUTPUTS/benchmark

"$python" -m sharpkd.benchmark what=fit_estimator "train_dir=$SHARPKD_DATA/train/photos"
"$python" -m sharpkd.benchmark what=estimation "model=$runs/fit_estimator/estimator.safetensors"
cp "$runs/fit_estimator/fit.json" "$runs/estimation/estimation.json" "$runs/estimation/estimation.csv" \
    benchmarks/estimation
cp "$runs/fit_estimator/estimator.safetensors" sharpkd/weights
