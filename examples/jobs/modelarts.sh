#!/bin/sh
# The start command of a ModelArts training job: `sh examples/jobs/modelarts.sh`.
# ModelArts tells where outputs go in the input named `output`; what lies there is copied to OBS when the job ends.
set -eu
: "${output:=/home/ma-user/modelarts/outputs/output_0}"
pip install --quiet memplan
exec memplan job \
    --plan "$output/../inputs/plan.json" \
    --profile "$output/profile" \
    --folder "$output/memplan-job" \
    -- python train.py --profile-to "$output/profile"
