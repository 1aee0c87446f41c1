# shellcheck shell=bash disable=SC2034 # read by tools/recipe.sh, after tools/cmd.sh, which says what may be set
# How this recipe starts programs. See docs/scaling.md.

# train_cmd="torchrun --standalone --nproc-per-node 2"
# executor=dask://localhost:8786
