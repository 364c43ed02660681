#!/bin/bash
# Run once by the image of PostgreSQL, when its data folder is new: the role that owns the tables, and the one that may only add events.
set -euo pipefail
psql --no-psqlrc --set ON_ERROR_STOP=1 --username postgres --dbname postgres \
  --set owner="$(cat /run/secrets/owner.password)" --set tocsin="$(cat /run/secrets/tocsin.password)" <<'SQL'
CREATE ROLE tocsin_owner LOGIN PASSWORD :'owner';
CREATE ROLE tocsin LOGIN PASSWORD :'tocsin';
CREATE DATABASE tocsin OWNER tocsin_owner;
REVOKE ALL ON DATABASE tocsin FROM PUBLIC;
GRANT CONNECT ON DATABASE tocsin TO tocsin;
SQL
