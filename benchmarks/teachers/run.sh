#!/usr/bin/env bash
# Which net makes the better teacher? attention_teacher and NAFNet, of about as many multiply-accumulates, on the same
# samples in the same order, on real photographs. Needs SHARPKD_DATA (train/photos, train/bsd400, eval/Set14,
# eval/Kodak24). About an hour on one core; call it again after an interruption.
# Then `python benchmarks/teachers/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}

finished() { grep -qs '"state": "finished"' "$SHARPKD_OUTPUTS/$1/status.json"; }
train() { # name of the run, then its net
    finished "teacher/$1" || "$python" -m sharpkd.train experiment=teacher "run=$1" "${@:2}" \
        loss.gamma=0 loss.beta=0 trainer.max_steps=2000 trainer=cpu trainer.val_check_interval=500 \
        data=folder "data.train_dir=[$SHARPKD_DATA/train/photos,$SHARPKD_DATA/train/bsd400]" \
        data.batch_size=8 data.crop_size=96 data.val_crop=256 data.val_limit=16 \
        degradation=gaussian 'degradation.sigma=[0.8,2.4]' \
        optimizer.lr=0.001 metrics.lpips_weights=null resume=auto
}

train attention_2000 net=attention_teacher net.width=24 'net.depths=[2,2,3]' 'net.decoder_depths=[1,1]'
train nafnet_2000 net=nafnet net.width=20 'net.encoder_blocks=[1,1,2]' net.middle_blocks=2 'net.decoder_blocks=[1,1,1]'

file() { echo "$SHARPKD_OUTPUTS/teacher/$1/net.safetensors"; }
for set in Set14 Kodak24; do
    "$python" -m sharpkd.evaluate "model={attention_teacher:$(file attention_2000),nafnet:$(file nafnet_2000)}" \
        data=folder "data.val_dir=$SHARPKD_DATA/eval/$set" degradation=gaussian degradation.sigma=1.6 "name=teachers_$set"
done
