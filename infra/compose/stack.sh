#!/bin/sh
# The stack of docker-compose.yml in one command, with docker or podman.
#
#   stack.sh up       makes .env with random passwords if there is none, builds, starts
#   stack.sh check    C-ECHO, C-STORE, STOW, QIDO and C-FIND; the study goes on to the partner, whole;
#                     everything is scraped
#   stack.sh gantry … the gantry command in the stack, such as `stack.sh gantry status`
#   stack.sh down     stops it; the volumes stay
#   stack.sh …        anything else is for compose itself, such as `stack.sh logs worker`
set -eu
cd -- "$(dirname -- "$0")/../.."

if [ -n "${COMPOSE:-}" ]; then
    compose() { $COMPOSE "$@"; }
elif docker compose version >/dev/null 2>&1; then
    compose() { docker compose "$@"; }
else
    COMPOSE=podman-compose
    compose() { $COMPOSE "$@"; }
fi
case "${COMPOSE:-}" in
    # Podman 4 does not start a container that needs one which has ended well, as `migrate` does.
    # Gantry's containers wait by themselves for what they need.
    *podman*) free=--no-deps ;;
    *) free= ;;
esac

secret() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

passwords() {
    [ -f .env ] && return
    (
        umask 077
        for name in DATABASE_PASSWORD BROKER_PASSWORD OBJECTS_PASSWORD GRAFANA_PASSWORD; do
            echo "$name=$(secret)"
        done >.env.new
    )
    mv .env.new .env
    echo "stack: made .env with new passwords" >&2
}

in_stack() { compose exec -T "$@"; }

# ask URL: what a page of another container says, asked from within the query container.
ask() {
    in_stack query python -c '
import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())' "$1"
}

await() {
    what=$1 tries=60
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || { echo "stack: $what: not in time" >&2; exit 1; }
        sleep 1
    done
    echo "stack: $what"
}

arrived() { [ "$(ask http://orthanc:8042/instances | grep -c '[0-9a-f]-')" -ge 2 ]; }
scraped() {
    up=$(ask 'http://prometheus:9090/api/v1/query?query=sum(up)')
    case $up in *'"4"]'*) ;; *) return 1 ;; esac
}

check() {
    for role in ingress worker query worklist; do
        await "$role is healthy" in_stack "$role" python /usr/local/bin/healthy
    done
    in_stack query python - --called=GANTRY --calling=STACK --storage=ingress:11112 \
        --web=http://query:8080/dicomweb --stow --query=query:11113 <charts/gantry/files/first_study.py
    uid=$(ask http://query:8080/dicomweb/studies?PatientID=GANTRY-HELM-TEST |
        sed -n 's/.*"0020000D": *{[^}]*"Value": *\["\([0-9.]*\)"\].*/\1/p')
    [ -n "$uid" ] || { echo "stack: the study has no UID" >&2; exit 1; }
    in_stack worker gantry push "$uid" --to ORTHANC --wait
    await "the partner has it" arrived
    await "Prometheus scrapes all three" scraped
    echo "stack: a study went through it from end to end"
}

case "${1:-}" in
    up)
        shift
        passwords
        compose build ingress
        compose up --detach $free "$@"
        ;;
    check) check ;;
    gantry)
        shift
        in_stack worker gantry "$@"
        ;;
    down)
        shift
        compose down "$@"
        ;;
    "") sed -n '2,/^set/s/^# \{0,1\}//p' "$0" ;;
    *) compose "$@" ;;
esac
