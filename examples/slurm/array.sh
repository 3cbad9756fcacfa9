#!/usr/bin/env bash
# One run as a job array, without a process that coordinates: N shares of the blocks, then the files.
#
#   bash array.sh CONFIG [N]
#
# Add what your site asks for (partition, account, time, GPUs) to the two `sbatch` lines. A share that was lost is run
# again by its number: sbatch --array=3 ..., then assemble again.
set -euo pipefail
config=$(realpath "$1")
shares=${2:-8}

array=$(sbatch --parsable --job-name=inpaint --array="1-$shares" --ntasks=1 --cpus-per-task=1 --mem=5G \
    --signal=B:USR1@120 --wrap "exec inpaint-pipeline shard \$SLURM_ARRAY_TASK_ID/$shares '$config' --set compute.executor=serial")
sbatch --job-name=inpaint-files --dependency="afterok:$array" --ntasks=1 --cpus-per-task=1 --mem=5G \
    --wrap "exec inpaint-pipeline assemble '$config'"
