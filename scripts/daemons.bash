# SPDX-License-Identifier: MIT
# The daemons of scripts/sweep: a function daemon_NAME for each, which sets
#
#   packages   what it needs; the first is the one whose version the table shows
#   apart      packages to unpack beside the system, which exclude one that the tests need
#   command    starts it in the foreground; `user` as whom, `environment` with what (NAME=VALUE)
#   stop       its own stop signal (TERM)
#   port       where it listens, on 127.0.0.1
#   client     a real client, which is given client_says; its output has to match `expect`
#   greeting   what a connection is greeted with
#   half rest answer   the two halves of a request, and its answer (printf %b; grep -P): an idle
#              connection has had one, one in use has sent half of it. No `rest`: none can be in use.
#   before     what the idle connection asks, where that is not half and rest
#   closes     set where the server closes behind each answer: the idle connection is a silent one
#   varies     a sed command for what differs in its log from run to run, beside numbers
#
# `write NAME` makes a file in $place, which each run has for itself; logs belong in $place/log, and
# standard output and error and syslog are there anyway. prepare_NAME, where there is one, runs
# before the daemon and without the shim. `http` and `lines` are the dialogs that many speak.
# shellcheck shell=bash disable=SC2034,SC2154

daemon_ngircd() {
    packages=(ngircd)
    write ngircd.conf 600 <<END
[Global]
Name = irc.test
Info = test
AdminInfo1 = test
Listen = 127.0.0.1
Ports = 6667
ServerUID = 0
ServerGID = 0
[Options]
DNS = no
Ident = no
PAM = no
END
    command=(ngircd -n -f "$place/ngircd.conf")
    port=6667
    before='NICK i\r\nUSER i i i :i\r\n' half='NICK a\r\nUSER a a a :' rest='a\r\n' answer=' 376 '
    client=(socat -t 3 - TCP:127.0.0.1:6667)
    client_says='NICK b\r\nUSER b b b :b\r\nQUIT\r\n' expect=' 001 b '
}

daemon_mosquitto() {
    packages=(mosquitto mosquitto-clients)
    write mosquitto.conf <<END
listener 1883 127.0.0.1
allow_anonymous true
END
    command=(mosquitto -c "$place/mosquitto.conf")
    port=1883
    # CONNECT without a client name, keep-alive 60 s; CONNACK
    half='\x10\x0c\x00\x04MQ' rest='TT\x04\x02\x00\x3c\x00\x00' answer='\x20\x02'
    varies='s/auto-[0-9A-F-]+/auto/g'
    client=(mosquitto_pub -d -h 127.0.0.1 -t a -m b -q 1) expect='received PUBACK'
}

daemon_rsync() {
    packages=(rsync)
    write rsyncd.conf <<END
use chroot = no
log file = $place/log/rsyncd
[files]
path = $place
END
    command=(rsync --daemon --no-detach --port=8730 --address=127.0.0.1 "--config=$place/rsyncd.conf")
    port=8730
    greeting='^@RSYNCD: .*' half='@RSYNCD: 31.0\n#li' rest='st\n' answer='^files' closes=1
    client=(rsync rsync://127.0.0.1:8730/files/rsyncd.conf) expect='rsyncd.conf'
}

dns_dialog() {
    port=$1
    # The query for a.test A over TCP: its length and its head, and its question.
    half='\x00\x18\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a'
    rest='\x04test\x00\x00\x01\x00\x01' answer='a.test'
    client=(dig +tcp +time=3 +tries=1 -p "$1" @127.0.0.1 a.test A) expect='192\.0\.2\.7'
}

zone() {
    write zone <<END
\$TTL 60
@ SOA ns.test. a.test. 1 60 60 60 60
@ NS ns.test.
ns A 192.0.2.1
a A 192.0.2.7
END
}

daemon_nsd() {
    packages=(nsd bind9-dnsutils)
    zone
    write nsd.conf <<END
server:
  ip-address: 127.0.0.1
  port: 5300
  username: ""
  chroot: ""
  zonesdir: "$place"
  database: ""
  pidfile: "$place/nsd.pid"
  xfrdfile: "$place/xfrd"
  zonelistfile: "$place/zones"
  logfile: "$place/log/nsd"
remote-control:
  control-enable: no
zone:
  name: test
  zonefile: zone
END
    command=(nsd -d -c "$place/nsd.conf")
    dns_dialog 5300
}

daemon_unbound() {
    packages=(unbound bind9-dnsutils)
    write unbound.conf <<END
server:
  interface: 127.0.0.1
  port: 5300
  username: ""
  chroot: ""
  directory: "$place"
  pidfile: "$place/unbound.pid"
  use-syslog: no
  logfile: ""
  local-zone: "test." static
  local-data: "a.test. A 192.0.2.7"
  do-not-query-localhost: no
remote-control:
  control-enable: no
END
    command=(unbound -d -c "$place/unbound.conf")
    dns_dialog 5300
}

daemon_bind9() {
    packages=(bind9 bind9-dnsutils)
    zone
    write named.conf <<END
options {
  directory "$place";
  pid-file "$place/named.pid";
  session-keyfile "$place/session.key";
  managed-keys-directory "$place";
  listen-on port 5300 { 127.0.0.1; };
  listen-on-v6 { none; };
  recursion no;
};
controls { };
zone "test" { type primary; file "zone"; };
END
    command=(named -g -c "$place/named.conf")
    dns_dialog 5300
}

daemon_knot() {
    packages=(knot bind9-dnsutils)
    zone
    write knot.conf <<END
server:
  listen: 127.0.0.1@5300
  rundir: $place
  tcp-io-timeout: 10000
database:
  storage: $place/db
log:
- target: stderr
  any: info
zone:
- domain: test
  storage: $place
  file: zone
END
    command=(knotd -c "$place/knot.conf")
    dns_dialog 5300
}

daemon_dnsmasq() {
    packages=(dnsmasq-base bind9-dnsutils)
    command=(dnsmasq -k -C /dev/null -p 5300 -a 127.0.0.1 -z -R -h -u root
        "--pid-file=$place/pid" --address=/a.test/192.0.2.7 "--log-facility=$place/log/dnsmasq")
    dns_dialog 5300
}

daemon_tinyproxy() {
    packages=(tinyproxy)
    write tinyproxy.conf <<END
Port 8888
Listen 127.0.0.1
Timeout 60
MaxClients 20
LogLevel Info
StatHost "stats.test"
END
    command=(tinyproxy -d -c "$place/tinyproxy.conf")
    http 8888 http://stats.test/
    client=(curl -sS -i -x http://127.0.0.1:8888 http://stats.test/)
    closes=1
}

daemon_pen() {
    packages=(pen)
    command=(pen -f 127.0.0.1:7001 127.0.0.1:7000)
    lines 7001
}

prepare_pen() {
    line_server 7000
}

daemon_redir() {
    packages=(redir)
    command=(redir -n 127.0.0.1:7001 127.0.0.1:7000)
    lines 7001
}

prepare_redir() {
    line_server 7000
}

daemon_rinetd() {
    packages=(rinetd)
    write rinetd.conf <<END
127.0.0.1 7001 127.0.0.1 7000
logfile $place/log/rinetd
END
    command=(rinetd -f -c "$place/rinetd.conf")
    lines 7001
}

prepare_rinetd() {
    line_server 7000
}

daemon_sslh() {
    packages=(sslh)
    command=(sslh -f -u root -p 127.0.0.1:7001 --anyprot 127.0.0.1:7000 --pidfile "$place/pid")
    lines 7001
}

prepare_sslh() {
    line_server 7000
}
