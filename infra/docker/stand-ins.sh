#!/bin/bash
# Makes stand-ins for the public base images out of Debian packages, under the names that the
# Dockerfile and docker-compose.yml use, for a machine that reaches no image registry. Needs root,
# buildah and debootstrap. They are not of the versions of the images that they stand in for; the S3
# server is another one; and there is none for Grafana, which Debian does not have.
set -euo pipefail
here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
suite=bookworm

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# image NAME [buildah config arguments]: the tree in $work/tree as an image.
image() {
    local name=$1 container
    shift
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/tree" / >/dev/null
    buildah config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@" "$container"
    buildah commit --quiet --rm --format docker "$container" "$name" >/dev/null
    echo "stand-ins: $name"
}

debootstrap --variant=minbase --include=ca-certificates,python3,python3-pip,python3-venv \
    "$suite" "$work/tree" >"$work/log" || { tail -n 20 "$work/log" >&2; exit 1; }
rm -rf "$work"/tree/var/cache/apt/archives/*.deb "$work"/tree/var/lib/apt/lists/*
ln -s /usr/bin/python3 "$work/tree/usr/local/bin/python"
# The authorities that this machine trusts, so that a build behind its proxy can fetch packages.
cp /etc/ssl/certs/ca-certificates.crt "$work/tree/etc/ssl/certs/ca-certificates.crt"
trust=(--env SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt --env PIP_CERT=/etc/ssl/certs/ca-certificates.crt)
image docker.io/library/python:3.11-slim-bookworm "${trust[@]}"

# No daemon starts while packages are unpacked.
printf '#!/bin/sh\nexit 101\n' >"$work/tree/usr/sbin/policy-rc.d"
chmod +x "$work/tree/usr/sbin/policy-rc.d"
cp /etc/resolv.conf "$work/tree/etc/resolv.conf"
chroot "$work/tree" /bin/sh -ec '
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q
    apt-get install -yq --no-install-recommends \
        postgresql redis-server prometheus orthanc radosgw ceph-mon ceph-osd ceph-common
    apt-get clean
    rm -rf /var/lib/apt/lists/*' >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
install -m 755 "$here/stand-in-postgres.sh" "$work/tree/usr/local/bin/docker-entrypoint.sh"
install -m 755 "$here/stand-in-s3.sh" "$work/tree/usr/local/bin/weed"
image docker.io/library/postgres:18 --entrypoint '["docker-entrypoint.sh"]' --cmd postgres
image docker.io/library/redis:8 --cmd redis-server
# Everything that is added belongs to root, and it runs as nobody.
install -d -m 1777 "$work/tree/prometheus"
image docker.io/prom/prometheus:v3.8.0 --user nobody --entrypoint '["/bin/prometheus"]'
image docker.io/jodogne/orthanc:1.12.9 --entrypoint '["Orthanc"]' --cmd /etc/orthanc/orthanc.json
image docker.io/chrislusf/seaweedfs:4.07 --entrypoint '["weed"]'
