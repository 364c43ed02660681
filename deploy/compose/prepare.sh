#!/bin/sh
# Makes the secrets of deploy/compose.yaml, each once; run again, it changes nothing that is there.
# The folder is yours alone. The files in it can be read by any user of a container that they are mounted into: compose cannot say which.
set -eu
folder=$(dirname "$0")/secrets
mkdir -p "$folder"
chmod 0700 "$folder"
umask 0333
random() { od -An -v -tx1 -N "$1" /dev/urandom | tr -d ' \n'; }
put() { [ -e "$folder/$1" ] || printf '%s\n' "$2" >"$folder/$1"; }

put master.key "$(random 32)"
for name in postgres owner tocsin grafana; do put "$name.password" "$(random 24)"; done
tocsin="postgresql://tocsin:$(cat "$folder/tocsin.password")@postgres/tocsin"
owner="postgresql://tocsin_owner:$(cat "$folder/owner.password")@postgres/tocsin"
put tocsin.toml "database = \"$tocsin\""
put migrate.toml "database = \"$tocsin\"
database_owner = \"$owner\""
echo "the secrets are in $folder; keep a copy of master.key elsewhere: without it sealed text is gone"
