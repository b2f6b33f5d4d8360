#!/bin/bash
# What docker-compose.yml needs of the entry point of the public PostgreSQL image, in its stand-in.
set -euo pipefail
bin=$(echo /usr/lib/postgresql/*/bin)
data=${PGDATA:-/var/lib/postgresql/data}
mkdir -p "$data" /var/run/postgresql
chown -R postgres: "$data" /var/run/postgresql
chmod 700 "$data"
as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
if [ ! -s "$data/PG_VERSION" ]; then
    password=$(mktemp)
    printf %s "$POSTGRES_PASSWORD" >"$password"
    chown postgres: "$password"
    "${as_postgres[@]}" "$bin/initdb" --pgdata="$data" --username="$POSTGRES_USER" --encoding=UTF8 \
        --locale=C.UTF-8 --auth=scram-sha-256 --pwfile="$password" >/dev/null
    rm -f "$password"
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    "${as_postgres[@]}" "$bin/postgres" --single -D "$data" postgres >/dev/null \
        <<<"CREATE DATABASE $POSTGRES_DB"
fi
shift # the command's name
exec "${as_postgres[@]}" "$bin/postgres" -D "$data" -c listen_addresses='*' "$@"
