#!/bin/bash
# Starts a small Ceph for tests: one monitor, one OSD that keeps everything in memory, one RADOS gateway, all on loopback.
#   RGW_DIR          the folder of its files              (default: rgw below TMPDIR or /tmp)
#   RGW_PORT         S3, IAM and STS on 127.0.0.1, [::1]   (default: 7480)
#   RGW_MON_PORT     the monitor                           (default: 6789)
#   RGW_FOREGROUND   not empty: stay until a daemon ends
# down.sh, with the same RGW_DIR, stops it.
set -euo pipefail

dir=${RGW_DIR:-${TMPDIR:-/tmp}/rgw}
port=${RGW_PORT:-7480}
mon_port=${RGW_MON_PORT:-6789}
user=$(id -un)
group=$(id -gn)

for tool in ceph-mon ceph-osd radosgw monmaptool radosgw-admin; do
  command -v "$tool" >/dev/null || { echo "$tool not found: run test/servers/install.sh rgw" >&2; exit 1; }
done

mkdir -p "$dir/mon" "$dir/osd" "$dir/log"
export CEPH_CONF=$dir/ceph.conf
fsid=$(cat /proc/sys/kernel/random/uuid)
mon_addr="v2:127.0.0.1:$mon_port"

cat > "$CEPH_CONF" <<C
[global]
fsid = $fsid
mon_host = [$mon_addr]
mon_initial_members = a
public_network = 127.0.0.0/8
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
paxos_propose_interval = 0.02
paxos_min_wait = 0.01
mon_data_avail_crit = 1
mon_data_avail_warn = 2
osd_crush_chooseleaf_type = 0
osd_memory_target = 939524096
osd_objectstore = memstore
memstore_device_bytes = 1073741824
run_dir = $dir
admin_socket = $dir/\$cluster-\$name.asok
log_file = $dir/log/\$name.log
mon_data = $dir/mon
osd_data = $dir/osd
rgw_data = $dir
rgw_dns_name = localhost
rgw_enable_apis = s3, admin, sts, iam
rgw_sts_key = abcdefghijklmnop
rgw_s3_auth_use_sts = true
C

# Daemons must not keep the caller's pipes open. Otherwise the caller never sees the end of our output.
start () {
  local name=$1
  shift
  "$@" </dev/null >"$dir/log/$name.out" 2>&1 &
  echo $! > "$dir/$name.pid"
}

monmaptool --create --clobber --fsid "$fsid" --addv a "[$mon_addr]" "$dir/monmap" >/dev/null
ceph-mon --id a --mkfs --monmap "$dir/monmap" --setuser "$user" --setgroup "$group"
start mon ceph-mon -f --id a --setuser "$user" --setgroup "$group"

osd_uuid=$(cat /proc/sys/kernel/random/uuid)
timeout 30 ceph osd new "$osd_uuid" >/dev/null
ceph-osd --id 0 --mkfs --osd-uuid "$osd_uuid" --setuser "$user" --setgroup "$group" 2>/dev/null
start osd ceph-osd -f --id 0 --setuser "$user" --setgroup "$group"
for _ in $(seq 100); do
  ceph osd stat | grep -q '1 up' && break
  sleep 0.2
done

# radosgw requires cephx by default and ignores the configuration file for this setting, so the options are given here.
start rgw radosgw -f -n client.rgw.a --auth_client_required=none --ms_mon_client_mode=crc \
  --setuser "$user" --setgroup "$group" \
  --rgw-frontends "beast endpoint=127.0.0.1:$port endpoint=[::1]:$port"
for _ in $(seq 300); do
  curl -s -o /dev/null "http://127.0.0.1:$port/" && break
  kill -0 "$(cat "$dir/rgw.pid")" 2>/dev/null || { tail -n 20 "$dir/log/rgw.out" >&2; exit 1; }
  sleep 0.2
done

echo "http://127.0.0.1:$port http://[::1]:$port CEPH_CONF=$CEPH_CONF"
[ -z "${RGW_FOREGROUND:-}" ] || wait -n
