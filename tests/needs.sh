#!/bin/sh
# What the tests need besides Python: Debian's packages, each named by the program that it brings.
#   needs.sh            As root (CI) install what is missing; on a person's machine name it, since nobody wants a test run to
#                       call sudo. The tests that can run do so.
#   needs.sh has NAME   Is it there?
#   needs.sh after      Say what did not run, and fail then.
there() {
  case "$1" in
    postgresql) ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null 2>&1 ;;
    pgbouncer) command -v pgbouncer >/dev/null 2>&1 || [ -x /usr/sbin/pgbouncer ] ;;
    default-jre-headless) command -v java >/dev/null 2>&1 ;;
    maven) command -v mvn >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
  esac
}
if [ "$1" = has ]; then there "$2"; exit; fi
missing=""
for name in chromium strace postgresql pgbouncer default-jre-headless maven prometheus; do there $name || missing="$missing $name"; done
[ -z "$missing" ] && exit 0
if [ "$1" = after ]; then
  echo "NOT ALL OF THE TESTS RAN: those that need$missing did not; sudo apt-get install$missing" >&2
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  echo "installing$missing ..."
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null && exit 0
fi
echo "for all of the tests: sudo apt-get install$missing" >&2
[ -n "$CI" ] && exit 1
exit 0
