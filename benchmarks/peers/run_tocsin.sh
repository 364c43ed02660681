#!/bin/bash
# Tocsin, one `tocsin serve` on PostgreSQL (STORE=postgres, default) or on its embedded store (STORE=sqlite).
# BIN is where the commands are; parts: ingest | full | million | tickets | all (without million)
. "$(dirname "$0")/lib.sh"; STORE=${STORE:-postgres}; PEER=tocsin-$STORE
ROOT="$(cd "$HERE/../.." && pwd)"; BIN=${BIN:-$ROOT/.venv/bin}; U=http://127.0.0.1:18090
cd "$ROOT"; export PYTHONPATH="$ROOT" TOCSIN_DATA=$P/tocsin-data TOCSIN_MASTER_KEY_FILE=$P/tocsin.key
PID=""; trap '[ -n "$PID" ] && stop $PID' EXIT
fresh() { [ -n "$PID" ] && stop "$PID"; PID=""; rm -rf "$TOCSIN_DATA" "$TOCSIN_MASTER_KEY_FILE"
  if [ "$STORE" = postgres ]; then psqlx -c "drop database if exists tocsin with (force)" -c "create database tocsin"
    export TOCSIN_DATABASE=postgresql://postgres@127.0.0.1:55433/tocsin; "$BIN/tocsin" migrate --tables >/dev/null; rm -rf "$TOCSIN_DATA"; fi; }
serve() { "$BIN/tocsin" serve --port 18090 > "$P/tocsin.out" 2> "$P/tocsin.err" & PID=$!; waithttp $U/healthz || exit 1; sleep 2
  T="Bearer $("$BIN/tocsin" token create --role admin)"; }
empty() { fresh; serve; }
rss() { awk '/VmRSS/ {printf "memory of the server: %.0f MiB (%s)\n", $2/1024, "'"$1"'"}' /proc/$PID/status; }
ingest() {
  empty; wrkpost $PEER distinct $U am distinct 8 "$T"
  empty; wrkpost $PEER dup90of100 $U am dup90 8 "$T"
  empty; wrkpost $PEER distinct_c1 $U am distinct 1 "$T"
  empty; wrkpost $PEER prom1_distinct $U tocsin-prom1 distinct 8 "$T"
  empty; wrkpost $PEER prom10_distinct $U tocsin-prom distinct 8 "$T"
  empty; wrkpost $PEER prom10_dup90 $U tocsin-prom dup90 8 "$T"; }
full() { # alerts present
  empty
  for n in 10000 90000; do "$BIN/python" -m benchmarks.beside_peers alerts $n $U "$T"; sleep 3
    has=$([ $n = 10000 ] && echo 10000 || echo 100000)
    wrkget $PEER list50_${has}_c1 "$U/api/v1/alerts?limit=50" 1 "$T"
    DUR=5 wrkpost $PEER distinct_at_${has} $U am distinct 8 "$T"; rss "$has alerts"; done; }
million() { # ten times as many
  empty; "$BIN/python" -m benchmarks.beside_peers alerts 1000000 $U "$T"; until curl -s $U/readyz | grep -q '"lag_events":0'; do sleep 1; done
  wrkget $PEER list50_1000000_c1 "$U/api/v1/alerts?limit=50" 1 "$T"
  DUR=5 wrkpost $PEER distinct_at_1000000 $U am distinct 8 "$T"; rss "1000000 alerts"; }
tickets() {
  empty; wrkpost $PEER create_api_empty $U tocsin-ticket distinct 8 "$T"
  for n in 1000 100000; do fresh; read -r login password < <("$BIN/python" -m benchmarks.beside_peers tickets $n); serve
    C=$("$BIN/python" -m benchmarks.beside_peers session $U "$login" "$password")
    wrkget $PEER queue_html_${n}_c1 "$U/console" 1 "" "$C"
    wrkget $PEER queue_json_${n}_c1 "$U/api/v1/queue?limit=50" 1 "$T"
    wrkget $PEER kpis_${n}_c1 "$U/api/v1/kpis" 1 "$T"
    wrkget $PEER ticket_${n}_c1 "$U/console/tickets/INC-$((n / 2))" 1 "" "$C"
    wrkpost $PEER create_api_${n} $U tocsin-ticket distinct 8 "$T"; rss "$n open tickets"; done; }
case "${1:-all}" in
 ingest) ingest ;; full) full ;; million) million ;; tickets) tickets ;;
 *) ingest; full; tickets ;;
esac
