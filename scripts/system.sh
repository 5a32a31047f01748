#!/bin/sh
# Install the Debian packages that tests and pictures use: a browser, PostgreSQL, Fashion-MNIST.
# Without apt or without the rights to use it, say what is missing and go on: the tests say what they skip.
set -u
missing=""
command -v chromium >/dev/null || missing="$missing chromium"
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
[ -d /usr/share/datasets/fashion-mnist ] || missing="$missing dataset-fashion-mnist"
[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null; then
    echo "missing:$missing (no apt-get here; tests that need them will be skipped)"
    exit 0
fi
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
    echo "could not install:$missing (tests that need them will be skipped)"
exit 0
