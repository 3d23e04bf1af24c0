#!/usr/bin/env bats
# SPDX-License-Identifier: MIT
# The example for Prometheus (scripts/metrics): how the figures are written for node_exporter's
# textfile collector, and when the alerts fire.
# mutant: scripts/metrics/weir-alerts.yml: s/weir_listeners_accepting > 0/weir_listeners_accepting > 1/
# needs: prometheus python3-yaml
# seconds: 1
# shellcheck disable=SC2016,SC2030,SC2031,SC2154

load helpers
load command

setup() {
    port=$((27000 + 10 * BATS_TEST_NUMBER))
    metrics=$ROOT/scripts/metrics
    into=$BATS_TEST_TMPDIR/textfile
    mkdir "$into"
    export WEIR_RUN_DIR=$BATS_TEST_TMPDIR/run
}

@test "promtool has nothing to say against the rules" {
    run promtool check rules "$metrics/weir-alerts.yml"
    echo "$output"
    [ "$status" = 0 ]
    has "$output" '4 rules found'
}

# case SERIES... <<ALERTS: another test of the rules, in which these series are read four times a
# minute; ALERTS is "TIME NAME [LABEL...]", the alerts of that name that fire then: labels of one, or
# none.
case_of() {
    local series time name label
    {
        echo '  - interval: 15s'
        echo '    input_series:'
        for series; do
            printf "      - series: '%s'\n        values: '%s'\n" "${series% = *}" "${series#* = }"
        done
        echo '    alert_rule_test:'
        while read -r time name label; do
            printf '      - eval_time: %s\n        alertname: %s\n        exp_alerts: [' "$time" "$name"
            [ -z "$label" ] || printf '{exp_labels: {%s}, exp_annotations: %s}' "$label" "$(annotations "$name" "$label")"
            echo ']'
        done
    } >>"$BATS_TEST_TMPDIR/test.yml"
}

# annotations ALERT LABELS: the rule's own, filled in.
annotations() {
    /usr/bin/python3 -c 'import json, re, sys, yaml
rules = yaml.safe_load(open(sys.argv[1]))["groups"][0]["rules"]
labels = yaml.safe_load("{" + sys.argv[3] + "}")
notes = next(rule["annotations"] for rule in rules if rule["alert"] == sys.argv[2])
fill = lambda text: re.sub(r"{{ \$labels\.(\w+) }}", lambda name: str(labels.get(name[1], "")), text)
print(json.dumps({name: fill(text) for name, text in notes.items()}))' \
        "$metrics/weir-alerts.yml" "$1" "$2"
}

@test "each alert fires when it is meant to, and not before" {
    local tree='pid="41",program="nginx",instance="a"' labels='pid: "41", program: nginx, instance: a'
    local draining="weir_phase{$tree,phase=\"draining\"}" left="weir_drain_left_seconds{$tree}"
    local hangs="severity: warning, phase: draining, $labels" still="severity: critical, $labels"
    printf 'rule_files: [%s]\nevaluation_interval: 15s\ntests:\n' "$metrics/weir-alerts.yml" \
        >"$BATS_TEST_TMPDIR/test.yml"
    # A drain of 25 s.
    case_of "$draining = 0 1 1 0x40" "$left = _ 20 5 0x40" \
        "weir_phase{$tree,phase=\"drained\"} = 0 0 0 1x40" \
        "weir_listeners_accepting{$tree} = 1 0 0 0x40" \
        "weir_losses_total{$tree,kind=\"unsent\"} = 0x43" <<'ALERTS'
1m WeirDrainHangs
10m WeirDrainHangs
10m WeirLosses
10m WeirStillAccepts
10m WeirFiguresAreOld
ALERTS
    # One that goes on behind its timeout: for two minutes it may be about to end.
    case_of "$draining = 0 1x60" "$left = _ 20 5 0x60" <<ALERTS
2m WeirDrainHangs
3m WeirDrainHangs $hangs
ALERTS
    # One of five minutes is none of those; one without an end is.
    case_of "$draining = 1x60" "$left = 300-15x19 0x40" <<ALERTS
4m WeirDrainHangs
8m WeirDrainHangs $hangs
ALERTS
    case_of "$draining = 1x60" <<ALERTS
1m WeirDrainHangs
4m WeirDrainHangs $hangs
ALERTS
    # Connections that were forced are told for a while.
    case_of "weir_losses_total{$tree,kind=\"forced_in_use\"} = 0 0 0 0 2x120" <<ALERTS
30s WeirLosses
2m WeirLosses severity: warning, kind: forced_in_use, $labels
20m WeirLosses
ALERTS
    # It is drained, and one of its listeners is not.
    case_of "weir_listeners_accepting{$tree} = 2 1x60" "weir_phase{$tree,phase=\"drained\"} = 0 1x60" \
        "weir_phase{$tree,phase=\"draining\"} = 0x60" <<ALERTS
45s WeirStillAccepts
2m WeirStillAccepts $still
ALERTS
    # Serving is what it is there for.
    case_of "weir_listeners_accepting{$tree} = 2x60" "weir_phase{$tree,phase=\"serving\"} = 1x60" \
        "weir_phase{$tree,phase=\"draining\"} = 0x60" <<ALERTS
10m WeirStillAccepts
ALERTS
    case_of 'node_textfile_mtime_seconds{file="/x/weir.prom",instance="a"} = 0 15 30 45 45x60' \
        'node_textfile_mtime_seconds{file="/x/other.prom",instance="a"} = 0x60' <<'ALERTS'
2m WeirFiguresAreOld
5m WeirFiguresAreOld severity: warning, file: /x/weir.prom, instance: a
ALERTS
    run promtool test rules "$BATS_TEST_TMPDIR/test.yml"
    echo "$output"
    [ "$status" = 0 ]
    has "$output" SUCCESS
}

# value METRIC: of our server's, as it is written.
value() {
    sed -n "s/^$1{pid=\"$SERVER_PID\".*} //p" <<<"$said"
}

@test "the rules name figures that weir has, and listeners of mode off do not count" {
    local metric
    serve server "WEIR_MODE=reply,127.0.0.1:$((port + 1))=off" -- /usr/bin/python3 -c '
import socket, sys
kept = [socket.create_server(("127.0.0.1", int(sys.argv[1]) + i)) for i in range(2)]
while True:
    kept[0].accept()' "$port"
    wait_port $((port + 1))
    exits 0 status "$SERVER_PID" --prometheus
    [ "$(value weir_listeners_accepting)" = 1 ]
    exits 0 drain "$SERVER_PID" --wait
    exits 0 status "$SERVER_PID" --prometheus
    [ "$(value weir_listeners_accepting)" = 0 ]
    grep -o 'weir_[a-z_]*' "$metrics/weir-alerts.yml" | sort -u >"$BATS_TEST_TMPDIR/named"
    [ "$(wc -l <"$BATS_TEST_TMPDIR/named")" = 4 ]
    while read -r metric; do
        grep -q "^$metric{pid=\"$SERVER_PID\",program=\"" <<<"$said" || { echo "no $metric"; return 1; }
    done <"$BATS_TEST_TMPDIR/named"
    grep -q '^weir_losses_total{.*,kind="forced_in_use"} ' <<<"$said"
    grep -q '^weir_phase{.*,phase="drained"} 1$' <<<"$said"
}

# service WEIR: what the unit does, with this command and a directory of ours.
service() {
    local command
    command=$(sed -n "s#^ExecStart=/bin/sh -c '\(.*\)'\$#\1#p" "$metrics/weir-metrics.service")
    [ -n "$command" ]
    (cd "$into" && sh -c "${command/\/usr\/local\/bin\/weir/$1}")
}

@test "the figures are renamed into their place when they are whole, and kept where there are no new ones" {
    local before
    serve server -- "$PROGRAMS/oldhttpd" "$port"
    wait_port "$port"
    service "$ROOT/build/weir"
    [ "$(ls "$into")" = weir.prom ]
    [ "$(stat -c %a "$into/weir.prom")" = 644 ]
    grep -q "^weir_processes{pid=\"$SERVER_PID\",program=\"oldhttpd\"} 1$" "$into/weir.prom"
    promtool check metrics <"$into/weir.prom"
    exec {reader}<"$into/weir.prom" # whoever reads the old one has all of it
    before=$(<"$into/weir.prom")
    conn_open client "$port"
    service "$ROOT/build/weir"
    [ "$(cat <&"$reader")" = "$before" ]
    [ "$(<"$into/weir.prom")" != "$before" ]
    before=$(<"$into/weir.prom")
    not service false
    [ "$(<"$into/weir.prom")" = "$before" ]
    grep -q '^WorkingDirectory=/var/lib/prometheus/node-exporter$' "$metrics/weir-metrics.service"
}

@test "systemd finds nothing wrong with the timer and its service, and starts it four times a minute" {
    cp "$metrics"/weir-metrics.* "$BATS_TEST_TMPDIR"
    run systemd-analyze verify --man=no "$BATS_TEST_TMPDIR/weir-metrics.timer" \
        "$BATS_TEST_TMPDIR/weir-metrics.service"
    [ "$status" = 0 ]
    lacks "$output" weir-metrics
    calendar=$(sed -n 's/^OnCalendar=//p' "$metrics/weir-metrics.timer")
    systemd-analyze calendar --iterations=2 "$calendar" >"$BATS_TEST_TMPDIR/times"
    [ "$(grep -oE ':(00|15|30|45) ' "$BATS_TEST_TMPDIR/times" | sort -u | wc -l)" -ge 2 ]
}
