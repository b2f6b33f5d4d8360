#!/bin/bash
# The stand-in of docker-compose.yml's S3 server: a Ceph RADOS gateway that keeps everything in
# memory, on port 8333, with the credentials of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY. What
# it holds is gone when it stops.
set -euo pipefail
dir=/tmp/ceph
rm -rf "$dir"
mkdir -p "$dir"/{mon,osd,rgw,log,run}
fsid=$(cat /proc/sys/kernel/random/uuid)
cat >"$dir/ceph.conf" <<X
[global]
fsid = $fsid
mon host = [v2:127.0.0.1:3300]
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
run dir = $dir/run
log file = $dir/log/\$name.log
admin socket = $dir/run/\$name.asok
setuser match path =
public addr = 127.0.0.1
cluster addr = 127.0.0.1
[mon.a]
mon data = $dir/mon
[osd.0]
osd data = $dir/osd
osd objectstore = memstore
memstore device bytes = 4294967296
[client.rgw.a]
rgw frontends = beast endpoint=0.0.0.0:8333
rgw data = $dir/rgw
X
conf=(-c "$dir/ceph.conf") admin=(-c "$dir/ceph.conf" -k "$dir/admin.keyring")
monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:3300]" "$dir/monmap" >/dev/null
ceph-authtool --create-keyring "$dir/mon.keyring" --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool --create-keyring "$dir/admin.keyring" --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
ceph-authtool "$dir/mon.keyring" --import-keyring "$dir/admin.keyring" >/dev/null
ceph-mon "${conf[@]}" -i a --mkfs --monmap "$dir/monmap" --keyring "$dir/mon.keyring"
ceph-mon "${conf[@]}" -i a
ceph "${admin[@]}" osd new "$fsid" >/dev/null
ceph "${admin[@]}" auth get-or-create osd.0 mon 'allow profile osd' osd 'allow *' >"$dir/osd/keyring"
ceph-osd "${conf[@]}" -i 0 --mkfs --osd-uuid "$fsid"
ceph-osd "${conf[@]}" -i 0
ceph "${admin[@]}" osd crush add osd.0 1.0 root=default host=localhost
ceph "${admin[@]}" auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' >"$dir/rgw/keyring"
radosgw-admin "${admin[@]}" user create --uid=gantry --display-name=gantry \
    --access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY" >/dev/null
exec radosgw "${conf[@]}" -n client.rgw.a -f
