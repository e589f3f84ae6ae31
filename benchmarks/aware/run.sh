#!/usr/bin/env bash
# Trains a student that is told sigma beside one that is not, on the same crops, and measures both on Set14.
# Needs SHARPKD_DATA (train/photos, train/bsd400, eval/Set14). Under an hour on one core; call it again
# after an interruption. Then `python benchmarks/aware/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}

finished() { grep -qs '"state": "finished"' "$SHARPKD_OUTPUTS/scratch/$1/status.json"; }
train() { # name of the run, then overrides
    finished "$1" || "$python" -m sharpkd.train experiment=scratch "${@:2}" "run=$1" \
        data=folder "data.train_dir=[$SHARPKD_DATA/train/photos,$SHARPKD_DATA/train/bsd400]" \
        data.batch_size=8 data.crop_size=96 data.val_crop=256 data.val_limit=16 \
        degradation=gaussian 'degradation.sigma=[0.3,3.2]' loss.beta=0 loss.gamma=0 optimizer.lr=0.001 \
        trainer=cpu trainer.max_steps=1500 trainer.val_check_interval=500 metrics.lpips_weights=null resume=auto
}

train aware_blind net=pixel_student
train aware_told net=aware_student module.use_condition=true
train aware_forgiving net=aware_student module.use_condition=true module.condition_noise=0.1
train aware_rep net=aware_student net.rep=true module.use_condition=true
train aware_blind_rep net=pixel_student net.rep=true

models=
for name in blind told forgiving rep blind_rep; do models+=",$name:$SHARPKD_OUTPUTS/scratch/aware_$name/net.safetensors"; done
for sigma in 0.8 1.2 1.6 2.4 3.0; do
    "$python" -m sharpkd.evaluate "model={${models#,}}" use_condition=true data=folder \
        "data.val_dir=$SHARPKD_DATA/eval/Set14" degradation=gaussian degradation.sigma=$sigma \
        metrics.lpips_weights=null "name=aware_$sigma"
done

wrong=()
for name in told forgiving rep; do wrong+=("$name=$SHARPKD_OUTPUTS/scratch/aware_$name/net.safetensors"); done
[ -f "$SHARPKD_OUTPUTS/evaluate/aware_misjudged.json" ] || "$python" benchmarks/aware/misjudged.py "${wrong[@]}"
