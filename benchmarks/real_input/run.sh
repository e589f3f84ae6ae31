#!/usr/bin/env bash
# Trains the nets of README's table on real photographs, evaluates them, and sweeps the four loss weights.
# Needs SHARPKD_DATA (train/photos, train/bsd400, eval/Set14, eval/Kodak24) and SHARPKD_WEIGHTS
# (squeezenet1_1.pth). About two hours on two cores; call it again after an interruption.
# Then `python benchmarks/real_input/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}" "${SHARPKD_WEIGHTS:?names the folder with squeezenet1_1.pth}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}
teacher=$SHARPKD_OUTPUTS/teacher/real/net.safetensors

common=(
    data=folder "data.train_dir=[$SHARPKD_DATA/train/photos,$SHARPKD_DATA/train/bsd400]"
    data.batch_size=8 data.crop_size=96 data.val_crop=256 data.val_limit=16
    degradation=gaussian 'degradation.sigma=[0.8,2.4]'
    trainer=cpu trainer.val_check_interval=500 optimizer.lr=0.001 metrics.lpips_weights=null resume=auto
)

finished() { grep -qs '"state": "finished"' "$SHARPKD_OUTPUTS/$1/status.json"; }
train() { # folder below outputs, then overrides
    finished "$1" || "$python" -m sharpkd.train "${@:2}" "${common[@]}" loss.beta=0 "run=${1#*/}"
}

train teacher/real experiment=teacher net=attention_teacher net.width=24 'net.depths=[2,2,3]' \
    'net.decoder_depths=[1,1]' loss.gamma=0 trainer.max_steps=8000
for net in pixel_student mobile_student; do
    steps=$([ $net = pixel_student ] && echo 4000 || echo 1000)
    student=("net=$net" "trainer.max_steps=$steps" loss.gamma=0.02)
    train distill/$net experiment=distill "${student[@]}" "teacher.path=$teacher" loss.delta=0.5
    train scratch/$net experiment=scratch "${student[@]}"
done
# without a distilled twin: it takes as long as all the others together
train scratch/enhanced_cnn experiment=scratch net=enhanced_cnn trainer.max_steps=1000 loss.gamma=0.02

models="{teacher:$teacher"
for net in pixel_student mobile_student; do
    for how in distill scratch; do models+=",${net}_$how:$SHARPKD_OUTPUTS/$how/$net/net.safetensors"; done
done
models+=",enhanced_cnn_scratch:$SHARPKD_OUTPUTS/scratch/enhanced_cnn/net.safetensors"
for set in Set14 Kodak24; do
    "$python" -m sharpkd.evaluate "model=$models}" data=folder "data.val_dir=$SHARPKD_DATA/eval/$set" \
        degradation=gaussian degradation.sigma=1.6 "name=real_$set"
done

# Each weight in turn around (1, 0.002, 0.02, 0.5); a combination that is there already is kept.
sweep() {
    "$python" -m sharpkd.train -m experiment=distill net=pixel_student net.width=16 net.depth=4 \
        loss=squeezenet "teacher.path=$teacher" "${common[@]}" \
        "metrics.lpips_weights=$SHARPKD_WEIGHTS/squeezenet1_1.pth" trainer.max_steps=300 \
        trainer.val_check_interval=150 callbacks.image_grid.every_n_validations=2 sweep.name=weights "$@"
}
alpha=loss.alpha=1 beta=loss.beta=0.002 gamma=loss.gamma=0.02 delta=loss.delta=0.5
sweep loss.alpha=0.25,1,4 $beta $gamma $delta
sweep $alpha loss.beta=0,0.02 $gamma $delta
sweep $alpha $beta loss.gamma=0,0.2 $delta
sweep $alpha $beta $gamma loss.delta=0,2
