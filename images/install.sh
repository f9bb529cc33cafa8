#!/bin/sh
# Installs one daemon with its locked dependencies into a virtual environment, for the build stage of each Dockerfile and
# the root file systems of the cluster tests.   usage: images/install.sh DAEMON PREFIX [PYTHON]
set -eu
daemon=$1 prefix=$2 python=${3:-python3}
here=$(dirname "$0")/..
"$python" -m venv "$prefix"
"$python" "$here/images/subset.py" "$here/requirements/runtime.lock" "$here/images/$daemon.txt" > "$prefix/locked.txt"
# Install only wheels from the lock, by hash. Nothing is built, and no package runs its own code.
"$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
    --require-hashes --only-binary :all: --requirement "$prefix/locked.txt"
site=$("$prefix/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cp -R "$here/kerf" "$here/$daemon" "$site/"
# The page's what-if box runs the command `kerf`, which asks the webhook's rules.
if [ "$daemon" = scheduler ]; then
    cp -R "$here/kerfctl" "$here/webhook" "$site/"
fi
# Images do not need the test fakes.
rm -rf "$site/kerf/testing"
# Half of the client library is an asynchronous client that Kerf never imports (68 MB).
rm -rf "$site/kubernetes/aio"
find "$site" -name '__pycache__' -prune -exec rm -rf {} +
# Compile now: a read-only root file system cannot store bytecode later.
"$prefix/bin/python" -m compileall -q --invalidation-mode unchecked-hash "$site"
"$prefix/bin/python" -m pip uninstall --quiet --yes --disable-pip-version-check pip setuptools
