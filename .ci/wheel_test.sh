#!/usr/bin/env bash
# Build the wheel, install it in a clean environment and use it from another folder: what an
# editable install hides (a room or a YAML file that is not packaged) shows here.
# Usage: .ci/wheel_test.sh PYTHON
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
unset PYTHONPATH

# By way of the sdist: a wheel built in the tree may pick up deleted files from an old build folder.
"$python" -m build --outdir "$place/dist" "$root" >"$place/build.log" 2>&1 ||
    { cat "$place/build.log"; exit 1; }
"$python" -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    "$place"/dist/fedmri-*.whl
# What it needs is taken from the environment that was made for the tests: installing all of it twice
# takes minutes. A .pth within that environment, its editable fedmri among them, is not followed.
site_of='import sysconfig; print(sysconfig.get_path("purelib"))'
"$python" -c "$site_of" >"$("$place/venv/bin/python" -c "$site_of")/needed.pth"
missing=$("$place/venv/bin/python" -m pip check --disable-pip-version-check | grep "^fedmri " || true)
if [ -n "$missing" ]; then
    echo "wheel test: the wheel asks for what the tested environment has not: $missing" >&2
    exit 1
fi

mkdir "$place/elsewhere"
cd "$place/elsewhere"
"$place/venv/bin/python" -c "import fedmri; assert fedmri.__file__.startswith('$place')"
for room in server clients simulation configs; do
    "$place/venv/bin/python" -c "import fedmri.$room"
    if "$place/venv/bin/python" -c "import $room" 2>/dev/null; then
        echo "wheel test: the wheel leaks the top-level name $room" >&2
        exit 1
    fi
done
"$place/venv/bin/fedmri" --help
"$place/venv/bin/fedmri" simulate --sites 2 experiment=smoke
echo "wheel test: the installed wheel works from another folder"
