#!/bin/sh
# A training job on one NPU under Slurm: `sbatch examples/jobs/slurm.sh`.
# The plan was made with `memplan plan ... -o plan.json`; the last good run's profile is the gate.
#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=npu:1
#SBATCH --time=02:00:00
#SBATCH --output=%x-%j.log
set -eu
memplan job \
    --plan "${PLAN:-plan.json}" \
    --profile "${PROFILE:-profiles/$SLURM_JOB_ID}" \
    --against "${BEFORE:-profiles/last-good}" --most-time 0.05 --most-memory 0.03 \
    --folder "memplan-job-$SLURM_JOB_ID" \
    -- python train.py --profile-to "${PROFILE:-profiles/$SLURM_JOB_ID}"
