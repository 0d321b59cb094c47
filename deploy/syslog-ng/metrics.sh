#!/bin/sh
# Prints how many audit lines syslog-ng has delivered, dropped, and not sent yet, for the textfile collector of Prometheus' node_exporter.
# usage: metrics.sh CONTROL_SOCKET
set -eu
stats=$(syslog-ng-ctl stats --control="$1")
echo "$stats" | awk -F';' '
  $1 ~ /^dst\./ && $2 ~ /^job_access_audit#/ { n[$(NF - 1)] = $NF }
  END {
    if (!("written" in n)) exit 1
    print "# TYPE job_access_audit_shipper_waiting_lines gauge\njob_access_audit_shipper_waiting_lines " n["queued"]
    print "# TYPE job_access_audit_shipper_delivered_lines_total counter\njob_access_audit_shipper_delivered_lines_total " n["written"]
    print "# TYPE job_access_audit_shipper_dropped_lines_total counter\njob_access_audit_shipper_dropped_lines_total " n["dropped"]
  }'
