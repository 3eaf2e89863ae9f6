#!/bin/sh
# Every benchmark of history, one after the other: bench/history.sh [DIRECTORY [OPTION…]]
# Archives are kept in DIRECTORY for the next time, or below TMPDIR for this one: some 40 GB.
# About 20 minutes on two cores. The options are given to every script.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
if [ $# -gt 0 ]; then
    directory=$1
    shift
else
    directory=$(mktemp -d)
    trap 'rm -rf "$directory"' EXIT
    trap 'exit 130' INT TERM
fi
printf '# month.py\n'
"$python" bench/month.py still quiet lively busy production --directory "$directory" "$@"
for script in query resume fetchlog; do
    printf '\n# %s.py\n' "$script"
    "$python" "bench/$script.py" --directory "$directory" "$@"
done
