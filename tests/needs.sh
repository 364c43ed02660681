#!/bin/sh
# What the tests need besides Python. As root (CI) what is missing is installed; on a person's machine it is only named,
# since nobody wants a test run to call sudo.
missing=""
command -v chromium >/dev/null 2>&1 || missing="$missing chromium"
command -v strace >/dev/null 2>&1 || missing="$missing strace"
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ]; then
  echo "installing$missing ..."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "the tests need$missing; install with: sudo apt-get install$missing" >&2
[ -n "$CI" ] && exit 1
exit 0
