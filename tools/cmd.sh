# shellcheck shell=bash disable=SC2034 # recipe.sh reads this file, then the recipe's own cmd.sh; stages.sh uses both
# How recipes start programs, unless a recipe's cmd.sh says something else. docs/scaling.md has examples.

# What starts the training (stage 3): torchrun with its options, and whatever is to come before it. Empty: one process.
train_cmd=

# Where the jobs of the other stages run: processes, dask://HOST:PORT or dask-slurm. Empty: processes of this machine, or
# what $ASRKIT_EXECUTOR says.
executor=

# Where networks are trained and run: cpu, cuda or cuda:N. Empty: the CPU, or for training what the setting
# training.device says. The option --device of run.sh takes its place.
device=
