#!/bin/sh
# Installs the official libraries under target/sdk, where tests/mock_feishu.rs looks for them.
# Run again it does nothing, unless a pin has changed.
set -eu

cd "$(dirname "$0")/../.."
here=tests/sdk
sdk=target/sdk
mkdir -p "$sdk"

if ! cmp -s "$here/requirements.txt" "$sdk/requirements.installed"; then
    rm -rf "$sdk/venv"
    python3 -m venv "$sdk/venv"
    "$sdk/venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$sdk/requirements.installed"
fi

if ! cmp -s "$here/package-lock.json" "$sdk/lock.installed"; then
    rm -rf "$sdk/node"
    mkdir -p "$sdk/node"
    cp "$here/package.json" "$here/package-lock.json" "$sdk/node/"
    npm ci --prefix "$sdk/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    cp "$here/package-lock.json" "$sdk/lock.installed"
fi
