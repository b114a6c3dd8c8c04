#!/bin/sh
# First start: makes the cluster and the database in the volume. Every start: becomes the server.
# POSTGRES_USER, POSTGRES_PASSWORD (or POSTGRES_PASSWORD_FILE) and POSTGRES_DB mean what they mean in the official image.
set -eu

if [ "${1:-postgres}" != postgres ]; then exec "$@"; fi
if [ $# -gt 0 ]; then shift; fi

user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"
unfinished="$PGDATA/.unfinished"

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  # A first start that was interrupted left this folder; whatever lies beside it came out of it.
  if [ -d "$unfinished" ]; then find "$PGDATA" -mindepth 1 -delete; fi

  umask 077
  mkdir "$unfinished"
  if [ -n "${POSTGRES_PASSWORD_FILE:-}" ]; then
    password="$(cat "$POSTGRES_PASSWORD_FILE")"
  else
    password="${POSTGRES_PASSWORD:-}"
  fi
  if [ -z "$password" ]; then
    echo "postgres: no password given. Next: set POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE." >&2
    rmdir "$unfinished"
    exit 2
  fi
  printf '%s\n' "$password" > "$unfinished/password"
  initdb --pgdata="$unfinished/cluster" --username="$user" --pwfile="$unfinished/password" --no-sync \
    --encoding=UTF8 --locale=C.UTF-8 --auth-local=trust --auth-host=scram-sha-256 > "$unfinished/initdb.log" \
    || { cat "$unfinished/initdb.log" >&2; exit 1; }
  echo "host all all all scram-sha-256" >> "$unfinished/cluster/pg_hba.conf"
  if [ "$database" != postgres ]; then
    # Single-user mode: no port is open while the database is incomplete, so nobody finds it half made.
    printf 'CREATE DATABASE "%s"\n' "$database" | postgres --single -F -D "$unfinished/cluster" postgres > /dev/null
  fi
  # PG_VERSION goes last: without it the next start begins again.
  find "$unfinished/cluster" -mindepth 1 -maxdepth 1 ! -name PG_VERSION -exec mv -t "$PGDATA" {} +
  if [ "${POSTGRES_FSYNC:-on}" != off ]; then sync -f "$PGDATA"; fi
  mv "$unfinished/cluster/PG_VERSION" "$PGDATA/PG_VERSION"
  rm -rf "$unfinished"
fi
unset POSTGRES_PASSWORD password

if [ "${POSTGRES_FSYNC:-on}" = off ]; then
  # For tests and load runs: quick, and gone with the machine's power.
  set -- -c fsync=off -c synchronous_commit=off -c full_page_writes=off "$@"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' "$@"
