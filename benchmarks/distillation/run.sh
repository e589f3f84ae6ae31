#!/usr/bin/env bash
# Scoreboards of distillation: what each method gives a pixel_student of 16 channels and 4 layers, and what changes
# that. Needs SHARPKD_DATA (train/photos, train/bsd400, eval/Set14, eval/Kodak24) and the teacher that
# ../real_input/run.sh trains (TEACHER names another). Two and a half hours on one core; called again it
# takes up what is trained: each training is done once.
# Then `python benchmarks/distillation/collect.py` copies the small results here.
set -euo pipefail
: "${SHARPKD_DATA:?names the folder with train/ and eval/}"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export SHARPKD_OUTPUTS=${SHARPKD_OUTPUTS:-$PWD/outputs}
python=${PYTHON:-.venv/bin/python}
teacher=${TEACHER:-$SHARPKD_OUTPUTS/teacher/real/net.safetensors}
photos=$SHARPKD_DATA/train/photos
all=[$photos,$SHARPKD_DATA/train/bsd400]
threads='"trainer=cpu","runtime.threads=1","optimizer.lr=0.001"'

student='{net:pixel_student,unshuffle:2,width:16,depth:4}'
board() { # name, steps, images to train on, methods, settings of every training
    "$python" -m sharpkd.benchmark what=distillation "name=$1" "steps=$2" "train_dir=$3" "methods=$4" seeds=3 \
        "student=$student" "teacher=$teacher" \
        "train=[$threads,\"trainer.val_check_interval=250\"${5:+,$5}]"
}

board methods 1000 "$all" '[scratch,output,feature,attention,output+feature+attention]'

# A quarter of the steps.
board short 250 "$all" '[scratch,output]'

# More weight on the teacher, and the teacher in place of the truth.
board weights 500 "$all" \
    '[scratch,output,{delta_2:["distillation=output","loss.delta=2"]},{no_truth:["distillation=output","loss.alpha=0"]}]' \
    '"loss.gamma=0"'

# The terms beyond output, features and attention maps, beside the board `weights`.
board terms 500 "$all" '[scratch,gated_output,affinity,consistency,contrastive]' '"loss.gamma=0"'

# Eight photographs with a ground truth; all photographs, these eight among them, as inputs that the teacher labels.
few=$SHARPKD_OUTPUTS/few
mkdir -p "$few/train" "$few/held_out"
mapfile -t files < <(find -L "$photos" -type f | sort | head -n 24)
ln -sf "${files[@]:0:8}" "$few/train"
ln -sf "${files[@]:8}" "$few/held_out"
extra="{output_extra:[\"distillation=output\",\"data.unlabelled_dir=$all\"]}"
board few 500 "$few/train" "[scratch,output,$extra]" "\"data.val_dir=$few/held_out\""

# A tenth of the weights that features and attention maps have by default.
board gentle 500 "$all" \
    '[scratch,{feature_tenth:["distillation=feature","distillation.terms.feature.weight=0.01"]},{attention_tenth:["distillation=attention","distillation.terms.attention.weight=0.005"]}]'

# A weaker teacher: the same net after an eighth of its steps, in the setting where a teacher shows most.
weak=$SHARPKD_OUTPUTS/teacher/weak
grep -qs '"state": "finished"' "$weak/status.json" || "$python" -m sharpkd.train experiment=teacher run=weak \
    net=attention_teacher net.width=24 'net.depths=[2,2,3]' 'net.decoder_depths=[1,1]' loss.gamma=0 loss.beta=0 \
    data=folder "data.train_dir=$all" data.batch_size=8 data.crop_size=96 data.val_crop=256 data.val_limit=16 \
    degradation=gaussian 'degradation.sigma=[0.8,2.4]' trainer=cpu trainer.val_check_interval=500 \
    optimizer.lr=0.001 metrics.lpips_weights=null trainer.max_steps=1000 resume=auto
board teacher 500 "$all" \
    "[scratch,{strong:[\"distillation=output\",\"loss.alpha=0\"]},{weak:[\"distillation=output\",\"loss.alpha=0\",\"teacher.path=$weak/net.safetensors\"]}]" \
    '"loss.gamma=0"'

# A student of five times the parameters.
student='{net:pixel_student,unshuffle:2,width:32,depth:6}'
board size 500 "$all" '[scratch,output]'
