#!/bin/sh
# Makes the virtual environment from the pinned versions in constraints.txt.
# Where there is no NVIDIA driver the CPU build of torch is taken if the package index offers one
# under its local version (+cpu); otherwise the default build of the same version.
set -eu

"$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "uae needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" >&2
    exit 3
}
[ -x "$VENV/bin/python" ] || "$PYTHON" -m venv "$VENV"
pip="$VENV/bin/python -m pip --disable-pip-version-check --quiet"

torch=$(sed -n 's/^torch==//p' constraints.txt)
if ! command -v nvidia-smi >/dev/null 2>&1; then
    $pip install "torch==$torch+cpu" 2>/dev/null ||
        echo "your package index offers no CPU build of torch $torch: taking the default build," \
            "gigabytes of CUDA; PIP_EXTRA_INDEX_URL=PyTorch's CPU index would save them" >&2
fi
$pip install --constraint constraints.txt --editable ".[$EXTRAS]"
