#!/usr/bin/env bash
# The second report's experiment with CRAFT ×4 as the teacher: trains the student with it and without it, measures
# all on BSD100 reduced 4 times, and measures the plain bicubic enlargement for a row of factors.
# Needs SHARPKD_DATA (train/photos, train/bsd400, eval/BSD100) and SHARPKD_WEIGHTS (craft_x4.pth). EPOCHS (25) of 200
# steps each, in bfloat16 (on a processor that has it more than twice as fast); about eight hours on one core; call it
# again after an interruption. Arguments are further settings of both trainings, such as trainer.max_steps=4 for a
# rehearsal.
# Then `python benchmarks/second_report/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}" "${SHARPKD_WEIGHTS:?names the folder with craft_x4.pth}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}
runs=$SHARPKD_OUTPUTS/enhanced_cnn_swinir
teacher=$SHARPKD_WEIGHTS/craft_x4.pth

finished() { grep -qs '"state": "finished"' "$runs/$1/status.json"; }
train() { # name of the run, then overrides
    finished "$1" || "$python" -m sharpkd.train experiment=enhanced_cnn_swinir "teacher.path=$teacher" "run=$1" \
        data=folder "data.train_dir=[$SHARPKD_DATA/train/photos,$SHARPKD_DATA/train/bsd400]" \
        data.val_crop=200 data.val_limit=16 trainer=cpu trainer.precision=bf16-mixed \
        "trainer.max_steps=$((200 * ${EPOCHS:-25}))" \
        trainer.log_every_n_steps=25 callbacks.last.every_n_train_steps=50 metrics.lpips_weights=null \
        resume=auto "${@:2}"
}
measure() { # name of the evaluation, then overrides; SSIM is counted above 0.90
    [ -f "$SHARPKD_OUTPUTS/evaluate/second_report_$1/metrics.json" ] || "$python" -m sharpkd.evaluate \
        "name=second_report_$1" data=folder "data.val_dir=$SHARPKD_DATA/eval/BSD100" degradation=lowres \
        metrics.ssim_threshold=0.9 metrics.lpips_weights=null "${@:2}"
}

for factor in 1.25 1.5 1.75 2 2.5 3 4; do
    measure "bicubic_$factor" model=input "degradation.scale=$factor"
done
small=(degradation.scale=4 degradation.carry_low_res=true)
measure teacher "model={teacher:$teacher}" "${small[@]}"

train distilled "teacher.cache=$runs/answers" "$@"
train scratch loss.delta=0 "$@"
measure students "model={distilled:$runs/distilled/net.safetensors,scratch:$runs/scratch/net.safetensors}" \
    "${small[@]}" 'metrics.latency_sizes=[[480,640],[1080,1920]]'
