# SPDX-License-Identifier: MIT
# The daemons of scripts/sweep: a function daemon_NAME for each, which sets
#
#   packages   what it needs; the first is the one whose version the table shows
#   apart      packages to unpack beside the system, which exclude one that the tests need
#   command    starts it in the foreground; `user` as whom, `environment` with what (NAME=VALUE)
#   stop       its own stop signal (TERM)
#   port       where it listens, on 127.0.0.1
#   client     a real client, which is given client_says; its output has to match `expect`
#   greeting   what a connection is greeted with, once it has said `hello`, where there is one
#   half rest answer   the two halves of a request, and its answer (printf %b; grep -P): an idle
#              connection has had one, one in use has sent half of it. No `rest`: none can be in use.
#   slow       a client whose request takes 1.5 s, where halves can't be sent; its output has to match
#              `expect` too
#   before     what the idle connection asks, where that is not half and rest
#   closes     set where the server closes behind each answer: the idle connection is a silent one
#   unseen     why the shim can't see who serves: then it must only change nothing
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

daemon_privoxy() {
    packages=(privoxy)
    write privoxy.conf <<END
listen-address 127.0.0.1:8118
confdir /etc/privoxy
logdir $place/log
logfile privoxy
keep-alive-timeout 60
END
    command=(privoxy --no-daemon "$place/privoxy.conf")
    http 8118 http://p.p/show-status
    client=(curl -sS -i -x http://127.0.0.1:8118 http://p.p/show-status)
    half='GET http://p.p/show-status HTTP/1.1\r\nHost: p' rest='.p\r\n\r\n' closes=1
    varies='s/ [0-9a-f]{12} / thread /' # its address
}

daemon_bitlbee() {
    packages=(bitlbee)
    write bitlbee.conf <<END
[settings]
END
    mkdir -p "$place/state"
    user=nobody
    command=(bitlbee -n -D -c "$place/bitlbee.conf" -d "$place/state" -i 127.0.0.1 -p 6668)
    port=6668 greeting='BitlBee-IRCd'
    before='NICK i\r\nUSER i i i :i\r\n' half='NICK a\r\nUSER a a a :' rest='a\r\n' answer=' 376 '
    client=(socat -t 3 - TCP:127.0.0.1:6668)
    client_says='NICK b\r\nUSER b b b :b\r\nQUIT\r\n' expect=' 001 b '
}

daemon_slapd() {
    packages=(slapd ldap-utils)
    mkdir -p "$place/db"
    write slapd.conf <<END
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile $place/pid
database mdb
suffix "dc=test"
directory $place/db
END
    command=(slapd -d 0 -f "$place/slapd.conf" -h ldap://127.0.0.1:3890/)
    port=3890
    # An anonymous bind.
    half='\x30\x0c\x02\x01\x01\x60' rest='\x07\x02\x01\x03\x04\x00\x80\x00' answer='\x61\x07'
    client=(ldapsearch -x -H ldap://127.0.0.1:3890/ -s base -b '' +) expect='supportedLDAPVersion: 3'
}

daemon_gearmand() {
    packages=(gearman-job-server gearman-tools)
    command=(gearmand -L 127.0.0.1 -p 4730 -l "$place/log/gearmand" -u root)
    port=4730
    half=sta rest='tus\n' answer='^\.'
    client=(gearadmin -h 127.0.0.1 --status) expect='^\.'
}

daemon_snmpd() {
    packages=(snmpd snmp)
    write snmpd.conf <<END
agentAddress tcp:127.0.0.1:1610
rocommunity public
END
    command=(snmpd -f -Lo -C -c "$place/snmpd.conf" -I system_mib -p "$place/pid")
    environment=("SNMP_PERSISTENT_DIR=$place")
    port=1610
    # A get of sysUpTime.0
    half='\x30\x26\x02\x01\x01\x04\x06pub' rest='lic\xa0\x19\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x0e'
    rest+='\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x03\x00\x05\x00' answer=public
    client=(snmpget -v2c -c public tcp:127.0.0.1:1610 .1.3.6.1.2.1.1.3.0) expect=Timeticks
}

daemon_mariadb() {
    packages=(mariadb-server-core mariadb-client)
    command=(mariadbd --no-defaults --user=root "--datadir=$place/db" "--socket=$place/socket"
        --bind-address=127.0.0.1 --port=3307 --innodb-buffer-pool-size=8M)
    port=3307 greeting=MariaDB closes=1
    client=(mariadb --no-defaults -h 127.0.0.1 -P 3307 -u a -N -e "SELECT 'is', 6 * 7")
    slow=("${client[@]:0:10}" "SELECT 'is', 42 + SLEEP(1.5)") expect='is[[:space:]]+42'
}

prepare_mariadb() {
    mariadb-install-db --no-defaults --user=root "--datadir=$place/db" --skip-test-db \
        --auth-root-authentication-method=normal --innodb-buffer-pool-size=8M &&
        echo "CREATE USER a@'%';" |
        mariadbd --no-defaults --user=root "--datadir=$place/db" --bootstrap --skip-grant-tables=0
}

daemon_krb5kdc() {
    packages=(krb5-kdc krb5-admin-server krb5-user)
    write krb5.conf <<END
[libdefaults]
default_realm = TEST
udp_preference_limit = 1
[realms]
TEST = {
 kdc = 127.0.0.1:8800
}
[logging]
kdc = FILE:$place/log/kdc
END
    write kdc.conf <<END
[kdcdefaults]
kdc_ports = ""
kdc_tcp_ports = 8800
[realms]
TEST = {
 database_name = $place/principal
 key_stash_file = $place/stash
 acl_file = $place/acl
}
END
    environment=("KRB5_CONFIG=$place/krb5.conf" "KRB5_KDC_PROFILE=$place/kdc.conf")
    command=(krb5kdc -n -P "$place/pid")
    port=8800
    client=(env "${environment[@]}" "KRB5CCNAME=$place/cc" kinit -V a) client_says='secret\n'
    expect='Authenticated to Kerberos'
}

prepare_krb5kdc() {
    env "${environment[@]}" kdb5_util create -s -P secret &&
        env "${environment[@]}" kadmin.local addprinc -pw secret a
}

daemon_icecast2() {
    packages=(icecast2)
    write icecast.xml <<END
<icecast><hostname>localhost</hostname>
<limits><clients>20</clients><sources>2</sources></limits>
<authentication><source-password>a</source-password><admin-user>a</admin-user>
<admin-password>a</admin-password></authentication>
<listen-socket><port>8000</port><bind-address>127.0.0.1</bind-address></listen-socket>
<paths><basedir>/usr/share/icecast2</basedir><logdir>$place/log</logdir>
<webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot></paths>
<logging><accesslog>access</accesslog><errorlog>error</errorlog><loglevel>3</loglevel></logging>
<security><chroot>0</chroot></security></icecast>
END
    user=nobody
    command=(icecast2 -c "$place/icecast.xml")
    http 8000 /status-json.xsl
    closes=1
}

daemon_cupsd() {
    packages=(cups-daemon cups-client)
    write cupsd.conf <<END
Listen 127.0.0.1:6310
WebInterface No
LogLevel info
<Location />
Order allow,deny
Allow all
</Location>
END
    write cups-files.conf <<END
ServerRoot $place
RequestRoot $place/spool
CacheDir $place/cache
StateDir $place/state
TempDir $place/tmp
AccessLog $place/log/access
ErrorLog $place/log/error
PageLog $place/log/page
END
    mkdir -p "$place"/{spool,cache,state,tmp}
    command=(cupsd -f -c "$place/cupsd.conf" -s "$place/cups-files.conf")
    http 6310 /cups.css
    client=(lpstat -h 127.0.0.1:6310 -r) expect='scheduler is running'
    answer='^HTTP/1.1'
}

daemon_git() {
    packages=(git)
    command=(git daemon --listen=127.0.0.1 --port=9418 --export-all "--base-path=$place"
        "--pid-file=$place/pid" --verbose)
    port=9418 closes=1
    half='002dgit-upload-pack /repo' rest='.git\x00host=127.0.0.1\x00' answer='[0-9a-f]{40}|0000'
    client=(git ls-remote git://127.0.0.1/repo.git) expect='^[0-9a-f]{40}[[:space:]]+HEAD'
}

prepare_git() {
    export HOME=$place GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a
    git config --global safe.directory '*' && git init -q --bare "$place/repo.git" &&
        cd "$place/repo.git" &&
        git update-ref refs/heads/master "$(git commit-tree -m a "$(git write-tree)")"
}

daemon_svnserve() {
    packages=(subversion)
    command=(svnserve -d --foreground -r "$place" --listen-host 127.0.0.1 --listen-port 3690)
    port=3690 greeting='^\( success'
    half='( 2 ( edit-pipeline svndiff1 ) 25:svn://127.0.' rest='0.1:3690/repo 1:a ( ) ) ' answer='\( (success|failure)'
    client=(svn info --non-interactive svn://127.0.0.1:3690/repo) expect='^Revision: 0'
}

prepare_svnserve() {
    svnadmin create "$place/repo"
}

daemon_stunnel() {
    packages=(stunnel4 openssl)
    write stunnel.conf <<END
foreground = yes
debug = notice
pid =
output = $place/log/stunnel
[tls]
accept = 127.0.0.1:8443
connect = 127.0.0.1:7000
cert = $place/cert
[plain]
client = yes
accept = 127.0.0.1:7001
connect = 127.0.0.1:8443
END
    command=(stunnel4 "$place/stunnel.conf")
    lines 7001
}

prepare_stunnel() {
    openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=a -keyout "$place/key" -out "$place/cert" &&
        cat "$place/key" >>"$place/cert" && line_server 7000
}

daemon_nrpe() {
    packages=(nagios-nrpe-server nagios-nrpe-plugin)
    write nrpe.cfg <<END
server_address=127.0.0.1
server_port=5666
nrpe_user=nobody
nrpe_group=nogroup
allowed_hosts=127.0.0.1
disable_syslog=1
log_file=$place/log/nrpe
command[quick]=/bin/echo served
command[slow]=/bin/sh -c "sleep 1.5; echo served"
END
    command=(nrpe -n -f -c "$place/nrpe.cfg")
    port=5666
    client=(/usr/lib/nagios/plugins/check_nrpe -2 -n -H 127.0.0.1 -c quick)
    slow=("${client[@]/quick/slow}") expect=served
}

daemon_munin_node() {
    packages=(munin-node)
    write munin-node.conf <<END
log_file $place/log/munin-node
pid_file $place/pid
background 0
setsid 0
user root
group root
host 127.0.0.1
port 4949
host_name node.test
allow ^127\.0\.0\.1$
END
    environment=("MUNIN_PLUGSTATE=$place")
    command=(munin-node --foreground --config "$place/munin-node.conf")
    port=4949 greeting='^# munin node at' half=ver rest='sion\n' answer='^munins node'
    client=(socat "-,ignoreeof" TCP:127.0.0.1:4949) client_says='version\nquit\n' expect='^munins node'
}

cgi() {
    # shellcheck disable=SC2054  # one word
    client=(env "SCRIPT_FILENAME=$1" REQUEST_METHOD=GET "SCRIPT_NAME=$1"
        cgi-fcgi -bind -connect "127.0.0.1:$port")
    slow=(env QUERY_STRING=slow "${client[@]}")
    expect='served'
}

daemon_fcgiwrap() {
    packages=(fcgiwrap libfcgi-bin)
    write script 755 <<'END'
#!/bin/sh
[ -z "$QUERY_STRING" ] || sleep 1.5
printf 'Content-Type: text/plain\r\n\r\nserved\n'
END
    command=(fcgiwrap -f -c 2 -s tcp:127.0.0.1:9000)
    port=9000 closes=1
    cgi "$place/script"
}

daemon_php_fpm() {
    packages=(php8.2-fpm libfcgi-bin)
    write script.php <<'END'
<?php if ($_SERVER['QUERY_STRING'] ?? '') usleep(1500000); echo "served\n";
END
    write fpm.conf <<END
[global]
error_log = $place/log/fpm
[www]
user = nobody
group = nogroup
listen = 127.0.0.1:9000
pm = static
pm.max_children = 3
END
    command=(php-fpm8.2 -F -y "$place/fpm.conf")
    port=9000 closes=1
    cgi "$place/script.php"
}

daemon_erlang() {
    packages=(erlang-base erlang-inets)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(erl -noshell -eval "ok = inets:start(), {ok, _} = inets:start(httpd, [{port, 8000},
        {bind_address, {127, 0, 0, 1}}, {server_name, \"test\"}, {server_root, \"$place\"},
        {document_root, \"$place/www\"}]).")
    environment=("HOME=$place")
    http 8000 /index.html
}

daemon_varnish() {
    packages=(varnish gcc libc6-dev)
    write vcl <<'END'
vcl 4.1;
backend none none;
sub vcl_recv { return (synth(200)); }
END
    environment=("HOME=$place")
    command=(varnishd -F -a 127.0.0.1:6081 -f "$place/vcl" -n "$place/state" -s "malloc,10m"
        -T none -j "${1:-none}")
    http 6081
}

daemon_varnish_jail() {
    daemon_varnish "unix,user=vcache"
}

squid_conf() {
    packages=(squid)
    write squid.conf <<END
http_port 127.0.0.1:3128
http_access allow all
shutdown_lifetime 1 second
pid_filename $place/pid
cache_effective_user proxy
access_log $place/log/access
cache_log $place/log/cache
coredump_dir $place
netdb_filename none
pinger_enable off
END
    http 3128 http://127.0.0.1:8080/
    client=(curl -sS -i -x http://127.0.0.1:3128 http://127.0.0.1:8080/)
}

daemon_squid_n() {
    squid_conf
    command=(squid -N -f "$place/squid.conf")
}

prepare_squid_n() {
    http_server 8080
}

daemon_squid() {
    squid_conf
    unseen="its worker is started with AT_SECURE set"
    command=(squid --foreground -f "$place/squid.conf")
}

prepare_squid() {
    http_server 8080
}

daemon_pgbouncer() {
    packages=(pgbouncer postgresql-client-15)
    write pgbouncer.ini <<END
[databases]
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
unix_socket_dir =
auth_type = any
admin_users = a
END
    user=nobody
    command=(pgbouncer "$place/pgbouncer.ini")
    port=6432
    hello='\x00\x00\x00\x23\x00\x03\x00\x00user\x00a\x00database\x00pgbouncer\x00\x00' greeting='Z.I'
    before='Q\x00\x00\x00\x12SHOW VERSION;\x00' answer='PgBouncer 1'
    client=(psql -h 127.0.0.1 -p 6432 -U a -At -c 'SHOW VERSION' pgbouncer) expect='^PgBouncer'
}

daemon_beanstalkd() {
    packages=(beanstalkd)
    command=(beanstalkd -l 127.0.0.1 -p 11300)
    port=11300
    half=sta rest='ts\r\n' answer='^OK'
    client=(socat -t 3 - TCP:127.0.0.1:11300) client_says='put 0 0 60 1\r\nx\r\nquit\r\n'
    expect='^INSERTED 1'
}

daemon_uwsgi() {
    packages=(uwsgi-core uwsgi-plugin-python3)
    write app.py <<'END'
def application(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    return [b"hello\n"]
END
    command=(uwsgi --plugin python3 --http-socket 127.0.0.1:8000 --wsgi-file "$place/app.py"
        --master --processes 2 --die-on-term --need-app)
    http 8000
    closes=1
}

daemon_h2o() {
    packages=(h2o)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    write h2o.conf <<END
listen:
  host: 127.0.0.1
  port: 8000
user: nobody
access-log: $place/log/access
hosts:
  default:
    paths:
      /:
        file.dir: $place/www
END
    command=(h2o -c "$place/h2o.conf")
    http 8000
}

daemon_webfsd() {
    packages=(webfs)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(webfsd -F -i 127.0.0.1 -p 8000 -r "$place/www" -f index.html -L "$place/log/access")
    http 8000
}

daemon_mini_httpd() {
    packages=(mini-httpd)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(mini_httpd -D -h 127.0.0.1 -p 8000 -d "$place/www" -u nobody -l "$place/log/access"
        -i "$place/pid")
    http 8000
    closes=1
}

daemon_monit() {
    packages=(monit)
    write monitrc 600 <<END
set daemon 60
set logfile $place/log/monit
set pidfile $place/pid
set idfile $place/id
set statefile $place/state
set httpd port 2812 and use address 127.0.0.1
  allow 127.0.0.1
END
    varies='s/id: [0-9a-f]+/id/'
    command=(monit -I -c "$place/monitrc")
    http 2812
    closes=1
}

daemon_mpd() {
    packages=(mpd mpc)
    write mpd.conf <<END
bind_to_address "127.0.0.1"
port "6600"
user "nobody"
log_file "$place/log/mpd"
pid_file "$place/pid"
state_file "$place/state"
db_file "$place/db"
audio_output {
 type "null"
 name "null"
}
END
    command=(mpd --no-daemon "$place/mpd.conf")
    port=6600 greeting='^OK MPD' half=sta rest='tus\n' answer='^OK$'
    client=(mpc -h 127.0.0.1 -p 6600 status) expect='volume:'
}

daemon_oidentd() {
    packages=(oidentd)
    command=(oidentd -i -S -a 127.0.0.1 -p 1130 -u nobody -g nogroup -C /dev/null)
    port=1130
    half=1, rest='2\r\n' answer='ERROR'
    client=(socat -t 3 - TCP:127.0.0.1:1130) client_says='1,2\r\n' expect='ERROR'
}

daemon_microsocks() {
    packages=(microsocks)
    command=(microsocks -i 127.0.0.1 -p 1080)
    port=1080 half='\x05\x01' rest='\x00' answer='\x05' closes=1
    client=(curl -sS -i --socks5 127.0.0.1:1080 http://127.0.0.1:8080/) expect='^HTTP/1.. 200'
}

prepare_microsocks() {
    http_server 8080
}

daemon_danted() {
    packages=(dante-server)
    write danted.conf <<END
logoutput: stderr
internal: 127.0.0.1 port = 1080
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
END
    command=(danted -f "$place/danted.conf" -p "$place/pid")
    port=1080 half='\x05\x01' rest='\x00' answer='\x05' closes=1
    client=(curl -sS -i --socks5 127.0.0.1:1080 http://127.0.0.1:8080/) expect='^HTTP/1.. 200'
}

prepare_danted() {
    http_server 8080
}

daemon_inetd() {
    packages=(openbsd-inetd gophernicus micro-httpd)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    write inetd.conf <<END
127.0.0.1:8000 stream tcp nowait nobody /usr/sbin/micro-httpd micro-httpd $place/www
127.0.0.1:7000 stream tcp nowait nobody /usr/sbin/gophernicus gophernicus -nf -r $place/www
END
    command=(inetd -i "$place/inetd.conf")
    http 8000 /index.html
    closes=1
}

daemon_inetd_gopher() {
    daemon_inetd
    port=7000 half=/ind rest='ex.html\r\n' answer='hello'
    client=(curl -sS --max-time 5 gopher://127.0.0.1:7000/0/index.html) expect='^hello'
}

daemon_xinetd() {
    packages=(micro-httpd) apart=(xinetd)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    write xinetd.conf <<END
defaults
{
 log_type = FILE $place/log/xinetd
}
service web
{
 type = UNLISTED
 bind = 127.0.0.1
 port = 8000
 socket_type = stream
 protocol = tcp
 wait = no
 user = nobody
 server = /usr/sbin/micro-httpd
 server_args = $place/www
}
END
    command=(xinetd -dontfork -f "$place/xinetd.conf" -pidfile "$place/pid")
    http 8000 /index.html
    closes=1
}

daemon_tcpserver() {
    packages=(ucspi-tcp micro-httpd)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(tcpserver -v -R -H -l 0 -u 65534 -g 65534 127.0.0.1 8000 /usr/sbin/micro-httpd "$place/www")
    http 8000 /index.html
    closes=1
}

daemon_cvs() {
    packages=(cvs ucspi-tcp)
    command=(tcpserver -R -H -l 0 -u 65534 -g 65534 127.0.0.1 2401
        cvs -f "--allow-root=$place/repo" pserver)
    port=2401 closes=1
    half="BEGIN AUTH REQUEST\n$place/repo\na\nA:" rest='yZZ\nEND AUTH REQUEST\n' answer='I (LOVE|HATE) YOU'
    client=(cvs -d ":pserver:a:b@127.0.0.1:$place/repo" rlog CVSROOT) expect='^RCS file'
    varies='s/\$[^ ]*//g' # the password's hash
}

prepare_cvs() {
    cvs -d "$place/repo" init && echo "a:$(openssl passwd -1 b):nobody" >"$place/repo/CVSROOT/passwd" &&
        chown -R nobody "$place/repo"
}

daemon_proftpd() {
    packages=(curl libhiredis0.14 libmemcached11 libmemcachedutil2 libpcre2-posix3) apart=(proftpd-core)
    write proftpd.conf <<END
ServerName test
ServerType standalone
DefaultAddress 127.0.0.1
Port 2121
UseIPv6 off
User nobody
Group nogroup
UseReverseDNS off
WtmpLog none
RequireValidShell off
AuthOrder mod_auth_file.c
AuthUserFile $place/private/users
PidFile $place/pid
ScoreboardFile $place/private/scoreboard
DelayEngine off
TransferLog none
END
    mkdir -p "$place/private"
    write private/users 600 <<END
a:$(openssl passwd -1 b):65534:65534::$place:/bin/sh
END
    command=(proftpd -n -c "$place/proftpd.conf")
    port=2121 greeting='^220 ' half=HE rest='LP\r\n' answer='^214 '
    client=(curl -sS --max-time 5 ftp://a:b@127.0.0.1:2121/) expect='proftpd.conf'
}

daemon_pdns() {
    packages=(pdns-server pdns-backend-bind bind9-dnsutils)
    zone
    write bind.conf <<END
zone "test" { type master; file "$place/zone"; };
END
    command=(pdns_server "--config-dir=$place" --daemon=no --guardian=no --launch=bind
        "--bind-config=$place/bind.conf" --local-address=127.0.0.1 --local-port=5300
        "--socket-dir=$place" --disable-syslog --module-dir=/usr/lib/x86_64-linux-gnu/pdns)
    dns_dialog 5300
}

daemon_pdns_recursor() {
    packages=(pdns-recursor bind9-dnsutils)
    zone
    command=(pdns_recursor "--config-dir=$place" --daemon=no "--auth-zones=test=$place/zone"
        --local-address=127.0.0.1 --local-port=5300 "--socket-dir=$place" --disable-syslog
        --client-tcp-timeout=20 --security-poll-suffix=)
    dns_dialog 5300
}

daemon_dnsdist() {
    packages=(dnsdist bind9-dnsutils)
    write dnsdist.conf <<END
setSecurityPollSuffix("")
setTCPRecvTimeout(20)
setLocal("127.0.0.1:5300")
newServer("127.0.0.1:5399")
addAction(AllRule(), SpoofAction("192.0.2.7"))
END
    command=(dnsdist --supervised --disable-syslog -C "$place/dnsdist.conf")
    dns_dialog 5300
}

daemon_hitch() {
    packages=(hitch openssl)
    write hitch.conf <<END
frontend = "[127.0.0.1]:8443"
backend = "[127.0.0.1]:8080"
pem-file = "$place/cert"
daemon = off
user = "nobody"
group = "nogroup"
END
    command=(hitch "--config=$place/hitch.conf")
    port=8443 closes=1
    client=(curl -sSk -i https://127.0.0.1:8443/) expect='^HTTP/1.. 200'
}

prepare_hitch() {
    http_server 8080
    prepare_stunnel
}

daemon_fossil() {
    packages=(fossil)
    environment=("HOME=$place" USER=root)
    command=(fossil server --localhost -P 8000 "$place/repo.fossil")
    http 8000 /home
    closes=1
    expect='^HTTP/1.. (200|302)'
}

prepare_fossil() {
    HOME=$place USER=root fossil init "$place/repo.fossil"
}

daemon_hg() {
    packages=(mercurial)
    command=(hg serve -a 127.0.0.1 -p 8000 -R "$place/repo" -A "$place/log/access" -E "$place/log/error")
    http 8000 /
}

prepare_hg() {
    hg init "$place/repo"
}

daemon_twistd() {
    packages=(python3-twisted)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(twistd3 -n "--pidfile=$place/pid" web --listen "tcp:8000:interface=127.0.0.1"
        "--path=$place/www")
    http 8000 /index.html
}

rack() {
    write config.ru <<'END'
run proc { [200, { "Content-Type" => "text/plain", "Content-Length" => "6" }, ["hello\n"]] }
END
    http 8000
}

daemon_puma() {
    packages=(puma)
    rack
    command=(puma -b tcp://127.0.0.1:8000 "$place/config.ru")
}

daemon_thin() {
    packages=(thin)
    rack
    command=(thin start -a 127.0.0.1 -p 8000 -R "$place/config.ru" -P "$place/pid" -l "$place/log/thin")
}

daemon_dictd() {
    packages=(dictd dict)
    write dictd.conf <<END
global {
 port 2628
 listen_to 127.0.0.1
}
database a { data "$place/a.dict" index "$place/a.index" }
END
    printf 'served\n' >"$place/a.dict"
    printf 'a\tA\tH\n' >"$place/a.index"
    command=(dictd -d nodetach -c "$place/dictd.conf" --locale C)
    port=2628 greeting='^220 ' half=STA rest='TUS\r\n' answer='^210 '
    client=(dict -h 127.0.0.1 -p 2628 a) expect=served
}

daemon_zabbix_agent() {
    packages=(zabbix-agent)
    write zabbix.conf <<END
Server=127.0.0.1
ListenIP=127.0.0.1
ListenPort=10050
LogFile=$place/log/zabbix
PidFile=$place/pid
StartAgents=3
AllowRoot=1
Hostname=test
END
    command=(zabbix_agentd -f -c "$place/zabbix.conf")
    # Its head: ZBXD, flags, lengths, and a key.
    port=10050 half='ZBXD\x01\x0a\x00\x00\x00\x00\x00\x00\x00agen' rest='t.ping' answer='ZBXD' closes=1
    # Debian 12 has no zabbix_get.
    client=(socat -t 3 - TCP:127.0.0.1:10050) client_says="$half$rest" expect='ZBXD'
}

daemon_distccd() {
    packages=(distcc gcc)
    write a.c <<'END'
int a;
END
    environment=("TMPDIR=$place")
    command=(distccd --no-detach --daemon --allow 127.0.0.1 --listen 127.0.0.1 --port 3632
        --log-stderr --pid-file "$place/pid" --jobs 3)
    port=3632 closes=1
    client=(env DISTCC_HOSTS=127.0.0.1:3632 DISTCC_FALLBACK=0 DISTCC_VERBOSE=1 "HOME=$place"
        distcc gcc -c "$place/a.c" -o "$place/a.o") expect='compile .* on 127.0.0.1:3632 completed ok'
}

daemon_gpsd() {
    packages=(gpsd)
    command=(gpsd -N -n -S 2947 -F "$place/control")
    port=2947 greeting='VERSION' before='?DEVICES;\r\n' answer='DEVICES'
    client=(socat -t 1 - TCP:127.0.0.1:2947) client_says='?VERSION;\r\n' expect='"class":"VERSION"'
}

daemon_sbcl() {
    packages=(sbcl)
    write echo.lisp <<'END'
(require :sb-bsd-sockets)
(let ((server (make-instance 'sb-bsd-sockets:inet-socket :type :stream :protocol :tcp)))
  (setf (sb-bsd-sockets:sockopt-reuse-address server) t)
  (sb-bsd-sockets:socket-bind server #(127 0 0 1) 7001)
  (sb-bsd-sockets:socket-listen server 5)
  (loop
    (let ((socket (sb-bsd-sockets:socket-accept server)))
      (sb-thread:make-thread
       (lambda ()
         (with-open-stream (stream (sb-bsd-sockets:socket-make-stream socket :input t :output t))
           (loop for line = (read-line stream nil)
                 while (and line (string/= line "bye"))
                 do (format stream "got ~a~%" line) (finish-output stream))))))))
END
    command=(sbcl --script "$place/echo.lisp")
    lines 7001
}

daemon_ncat() {
    packages=(ncat)
    # shellcheck disable=SC2016  # expanded by its shell
    command=(ncat -lk 127.0.0.1 7001 --sh-exec
        'while read -r line && [ "$line" != bye ]; do echo "got $line"; done')
    lines 7001
}

daemon_clamd() {
    packages=(clamav-daemon clamdscan)
    mkdir -p "$place/db"
    write db/a.hdb <<<'44d88612fea8a8f36de82e1278abb02f:68:A.Test'
    write clamd.conf <<END
TCPSocket 3310
TCPAddr 127.0.0.1
DatabaseDirectory $place/db
Foreground yes
LogFile $place/log/clamd
END
    command=(clamd -c "$place/clamd.conf")
    half='zPI' rest='NG\0' answer=PONG port=3310 closes=1
    client=(clamdscan -c "$place/clamd.conf" --stream "$place/clamd.conf") expect='Infected files: 0'
}

daemon_spamd() {
    packages=(spamd spamc)
    mkdir -p "$place/rules"
    write rules/a.pre <<<'loadplugin Mail::SpamAssassin::Plugin::Check'
    write rules/a.cf <<END
use_bayes 0
body A /hello/
score A 1
END
    command=(spamd -x -L -m 2 --min-children=2 -p 7830 -i 127.0.0.1 -A 127.0.0.1 -u nobody
        "--siteconfigpath=$place/rules" "--configpath=$place/rules" -r "$place/pid"
        -s "$place/log/spamd")
    port=7830
    half='PING SPAMC/1.2\r' rest='\n\r\n' answer=PONG closes=1
    client=(spamc -d 127.0.0.1 -p 7830 -R) client_says='Subject: a\n\nhello\n' expect='1\.0/|1/5'
    varies='/child states/d' # when it looks
}

daemon_inspircd() {
    packages=(libargon2-1 libgnutls30 libldap-2.5-0 libmaxminddb0 libre2-9 libtre5 libhttp-parser2.9) apart=(inspircd)
    write inspircd.conf <<END
<server name="irc.test" description="a" network="test">
<admin name="a" nick="a" email="a@a.test">
<bind address="127.0.0.1" port="6667" type="clients">
<connect name="all" allow="*" localmax="50" globalmax="50" resolvehostnames="no" timeout="60">
<options prefixquit="">
<pid file="$place/pid">
END
    user=nobody
    command=(inspircd --nofork --nolog "--config=$place/inspircd.conf")
    port=6667
    before='NICK i\r\nUSER i i i :i\r\n' half='NICK a\r\nUSER a a a :' rest='a\r\n' answer=' 376 | 422 '
    client=(socat -t 3 - TCP:127.0.0.1:6667)
    client_says='NICK b\r\nUSER b b b :b\r\nQUIT\r\n' expect=' 001 b |Client exited'
}

daemon_transmission() {
    packages=(transmission-daemon)
    user=nobody environment=("HOME=$place")
    command=(transmission-daemon -f -g "$place/conf" -p 9092 -r 127.0.0.1 -i 127.0.0.1 --no-portmap -w "$place")
    http 9092 /transmission/rpc
    half='GET /transmission/rpc HTTP/1.1\r\nHost: 127.0.' rest='0.1\r\n\r\n'
    answer='^HTTP/1.1 409' expect='^HTTP/1.1 409'
}

daemon_aria2() {
    packages=(aria2)
    command=(aria2c --no-conf --enable-rpc --rpc-listen-port=6801 "--dir=$place" --enable-dht=false --quiet
        "--log=$place/log/aria2" --log-level=notice)
    http 6801 '/jsonrpc?method=aria2.getVersion&id=a'
}

daemon_prosody() {
    packages=(prosody)
    write prosody.cfg.lua <<END
modules_enabled = { "saslauth"; "ping"; }
modules_disabled = { "s2s"; "tls"; }
interfaces = { "127.0.0.1" }
c2s_ports = { 5222 }
c2s_require_encryption = false
data_path = "$place"
pidfile = "$place/pid"
log = { info = "$place/log/prosody" }
VirtualHost "a.test"
END
    user=nobody
    command=(prosody -F --config "$place/prosody.cfg.lua")
    port=5222
    half="<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0' to='a.te"
    rest="st'>" answer='stream:features'
    client=(socat "-,ignoreeof" TCP:127.0.0.1:5222) client_says="$half$rest</stream:stream>"
    expect='stream:features' varies='s/c2s[0-9a-f]+/session/'
}

daemon_coturn() {
    packages=(coturn)
    command=(turnserver -n -c /dev/null --listening-ip=127.0.0.1 --listening-port=3478 --no-tls --no-dtls --no-cli
        --no-udp --allow-loopback-peers --relay-ip=127.0.0.1 "--pidfile=$place/pid" --log-file=stdout
        "--userdb=$place/db" --user=a:b --realm=test)
    port=3478
    # A STUN binding request.
    half='\x00\x01\x00\x00\x21\x12\xa4\x42' rest='aaaabbbbcccc' answer='aaaabbbbcccc'
    client=(socat -t 1 - TCP:127.0.0.1:3478)
    client_says='\x00\x01\x00\x00\x21\x12\xa4\x42aaaabbbbdddd' expect='aaaabbbbdddd'
}

daemon_pure_ftpd() {
    packages=(pure-ftpd-common libsodium23) apart=(pure-ftpd)
    command=(pure-ftpd -S "127.0.0.1,2121" -e -H -g "$place/pid" -A)
    port=2121 greeting='^220' half='SY' rest='ST\r\n' answer='530|215'
    client=(socat -t 3 - TCP:127.0.0.1:2121) client_says='QUIT\r\n' expect='221'
}

daemon_smbd() {
    packages=(samba smbclient)
    mkdir -p "$place"/{state,private,lock,cache,share}
    write smb.conf <<END
[global]
interfaces = lo
bind interfaces only = yes
smb ports = 4450
state directory = $place/state
lock directory = $place/lock
cache directory = $place/cache
private dir = $place/private
pid directory = $place
ncalrpc dir = $place/ncalrpc
log file = $place/log/smbd
map to guest = bad user
guest account = nobody
disable spoolss = yes
[share]
path = $place/share
guest ok = yes
END
    command=(setsid smbd -F --no-process-group -s "$place/smb.conf")
    port=4450 closes=1
    client=(smbclient -p 4450 -N -s "$place/smb.conf" -L 127.0.0.1) expect='share .*Disk'
}

daemon_starman() {
    packages=(starman)
    write app.psgi <<'END'
sub { [200, ['Content-Type' => 'text/plain'], ["good\n"]] }
END
    command=(starman --listen 127.0.0.1:5000 --workers 3 "$place/app.psgi")
    http 5000
}

daemon_hypnotoad() {
    packages=(libmojolicious-perl)
    write app.pl <<END
use Mojolicious::Lite -signatures;
app->config(hypnotoad => {listen => ['http://127.0.0.1:5001'], workers => 2, pid_file => '$place/pid'});
get '/' => {text => "good\n"};
app->start;
END
    command=(hypnotoad -f "$place/app.pl")
    http 5001
}

daemon_nghttpx() {
    packages=(nghttp2-proxy)
    command=(nghttpx --conf=/dev/null '--frontend=127.0.0.1,3000;no-tls'
        '--backend=127.0.0.1,7000' "--accesslog-file=$place/log/access")
    http 3000
    closes=1 varies='s/ [0-9a-f]{8} / id /' # a name of its own
}

prepare_nghttpx() {
    http_server 7000
}

daemon_uhub() {
    packages=(uhub)
    write uhub.conf <<END
server_port=1511
server_bind_addr=127.0.0.1
hub_name=a
file_acl=$place/acl
END
    write acl <<<''
    command=(uhub -c "$place/uhub.conf")
    port=1511
    half='HSUP ADBASE' rest=' ADTIGR\n' answer=ISUP
    client=(socat -t 1 - TCP:127.0.0.1:1511) client_says='HSUP ADBASE ADTIGR\n' expect=ISUP
}

daemon_radicale() {
    packages=(radicale)
    command=(/usr/bin/python3 -m radicale --server-hosts 127.0.0.1:5232
        --storage-filesystem-folder "$place/store" --auth-type none)
    http 5232 /.web/
    closes=1
}

daemon_opentracker() {
    packages=(opentracker)
    user=nobody
    command=(opentracker -i 127.0.0.1 -p 6969 -d "$place")
    http 6969 /stats
    answer='^HTTP/1' expect='^HTTP/1' closes=1
}

daemon_sniproxy() {
    packages=(sniproxy)
    write sniproxy.conf <<END
user nobody
pidfile $place/pid
listener 127.0.0.1:7001 {
    proto http
}
table {
    .* 127.0.0.1:7000
}
END
    command=(sniproxy -f -c "$place/sniproxy.conf")
    http 7001
}

prepare_sniproxy() {
    http_server 7000
}

daemon_kamailio() {
    packages=(kamailio)
    write kamailio.cfg <<END
#!KAMAILIO
children=2
tcp_children=2
log_stderror=yes
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "sl.so"
listen=tcp:127.0.0.1:5060
request_route { sl_send_reply("200", "OK"); }
END
    command=(kamailio -DD -E -f "$place/kamailio.cfg" -P "$place/pid" -Y "$place")
    port=5060
    half='OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bKa\r\n'
    rest='From: <sip:a@a>;tag=a\r\nTo: <sip:a@127.0.0.1>\r\n'
    rest+='Call-ID: a\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 5\r\nContent-Length: 0\r\n\r\n' answer='SIP/2.0 200'
    client=(socat -t 1 - TCP:127.0.0.1:5060) client_says="$half$rest" expect='SIP/2.0 200'
}

daemon_mumble() {
    packages=(mumble-server openssl)
    write mumble.ini <<END
database=$place/db
host=127.0.0.1
port=64738
logfile=
uname=
END
    user=nobody environment=("HOME=$place")
    command=(murmurd -fg -ini "$place/mumble.ini")
    port=64738 closes=1
    client=(openssl s_client -connect 127.0.0.1:64738) expect='CONNECTED'
    varies="s/set to '.*'/set/"
}

daemon_postfix() {
    packages=(libicu72 libdb5.3 libnsl2 libsasl2-2) apart=(postfix)
    mkdir -p "$place"/{conf,queue,data}
    write conf/main.cf <<END
compatibility_level = 3.6
myhostname = a.test
queue_directory = $place/queue
data_directory = $place/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
shlib_directory = /usr/lib/postfix
meta_directory = $place/conf
mail_owner = list
setgid_group = mail
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mydestination = a.test
local_recipient_maps =
alias_maps =
import_environment = MAIL_CONFIG LD_PRELOAD WEIR_TREE WEIR_LOG WEIR_STOP_SIGNALS
END
    write conf/master.cf <<END
127.0.0.1:2525 inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
local unix - - n - - discard
END
    command=(/usr/lib/postfix/sbin/master -d -c "$place/conf")
    environment=("MAIL_CONFIG=$place/conf")
    port=2525 greeting='^220' before='EHLO a.test\r\nRSET\r\n' answer='^250 2\.(0\.0|1\.5) '
    # For whom it is decides another process, which is started for the first mail.
    half='EHLO a.te' rest='st\r\nMAIL FROM:<a@a.test>\r\nRCPT TO:<b@a.test>\r\n'
    varies='s/[0-9A-F]+: client/id: client/'
    client=(socat -t 3 - TCP:127.0.0.1:2525) client_says='EHLO a.test\r\nQUIT\r\n' expect='221'
}

prepare_postfix() {
    mkdir -p "$place"/queue/{active,bounce,corrupt,defer,deferred,flush,hold,incoming} \
        "$place"/queue/{private,maildrop,public,pid,saved,trace}
    chown list "$place"/queue/* "$place/data"
    chown root "$place/queue/pid"
}

daemon_postgrey() {
    packages=(postgrey)
    mkdir -p "$place/db" && chown nobody "$place/db"
    user=nobody
    command=(postgrey --inet=127.0.0.1:10023 "--dbdir=$place/db" --user=nobody --group=nogroup)
    port=10023
    half='request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=SMTP\nclient_address=127.0.0.1\nclient_name=a.te'
    rest='st\nsender=a@a.test\nrecipient=b@b.test\n\n' answer='^action='
    client=(socat -t 3 - TCP:127.0.0.1:10023)
    client_says='request=smtpd_access_policy\nclient_address=127.0.0.2\nclient_name=c\nsender=c@c.test\nrecipient=d@d.test\n\n'
    expect='^action='
}

daemon_minidlna() {
    packages=(minidlna)
    mkdir -p "$place/media"
    write minidlna.conf <<END
network_interface=lo
port=8200
media_dir=$place/media
db_dir=$place/db
log_dir=$place/log
inotify=no
END
    command=(minidlnad -S -f "$place/minidlna.conf" -P "$place/pid" -R)
    http 8200
    half='' rest='' closes=1 # it takes what the first read gives for the whole
    varies='s/[0-9:.]* *//g'
}

daemon_upsd() {
    packages=(nut-server)
    mkdir -p "$place/nut"
    printf '%s\n' 'LISTEN 127.0.0.1 3493' 'ALLOW_NO_DEVICE true' | write nut/upsd.conf
    : | write nut/ups.conf
    : | write nut/upsd.users
    environment=("NUT_CONFPATH=$place/nut" "NUT_STATEPATH=$place")
    command=(/lib/nut/upsd -F -u root) # the one in the path wants /etc/nut's leave
    port=3493
    half='VE' rest='R\n' answer='^Network UPS Tools'
    client=(socat -t 3 - TCP:127.0.0.1:3493) client_says='NETVER\nLOGOUT\n' expect='^OK Goodbye|Goodbye'
}

daemon_exim() {
    packages=(exim4-daemon-light)
    write exim.conf 644 <<END
primary_hostname = a.test
spool_directory = $place/spool
log_file_path = $place/log/%s
exim_user = nobody
exim_group = nogroup
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = accept
begin acl
begin routers
END
    mkdir -p "$place/spool" && chown nobody "$place/spool"
    command=(exim4 -bdf -oX 2525 -oP "$place/pid" -C "$place/exim.conf")
    port=2525 greeting='^220 ' hello=''
    half='NO' rest='OP\r\n' answer='^250 '
    client=(socat -t 3 - TCP:127.0.0.1:2525) client_says='EHLO b\r\nQUIT\r\n' expect='^221 '
}

daemon_nbdkit() {
    packages=(nbdkit)
    command=(nbdkit -f -i 127.0.0.1 -p 10809 memory 1M)
    # A list of the exports; a part of the magic number with which each answer begins.
    port=10809 greeting=NBDMAGIC half='\x00\x00\x00\x03IHAV'
    rest='EOPT\x00\x00\x00\x03\x00\x00\x00\x00' answer=Ue
    client=(socat -t 1 - TCP:127.0.0.1:10809) client_says="$half$rest" expect=IHAVEOPT
}

daemon_pulseaudio() {
    packages=(pulseaudio pulseaudio-utils)
    user=nobody environment=("HOME=$place" "XDG_RUNTIME_DIR=$place")
    command=(pulseaudio -n --daemonize=no --exit-idle-time=-1 --disable-shm=yes
        -L "module-native-protocol-tcp auth-anonymous=1 port=4713 listen=127.0.0.1" -L module-null-sink)
    port=4713 closes=1
    client=(env "HOME=$place" pactl -s 127.0.0.1 info) expect='Server Name: pulseaudio'
}

daemon_tarantool() {
    packages=(tarantool)
    write a.lua <<END
box.cfg{listen = '127.0.0.1:3301', work_dir = '$place'}
END
    command=(tarantool "$place/a.lua")
    # A ping.
    port=3301 greeting=Tarantool half='\x05\x82\x00' rest='\x40\x01\x01' answer='\xce.*\x05\xce'
    client=(socat -t 1 - TCP:127.0.0.1:3301) client_says="$half$rest" expect=Tarantool
    varies='s/[0-9a-f]{8}-[0-9a-f-]{27}/uuid/g'
}

daemon_zookeeper() {
    packages=(zookeeper)
    write zoo.cfg <<END
tickTime=2000
dataDir=$place/data
clientPort=2181
clientPortAddress=127.0.0.1
admin.enableServer=false
END
    command=(java -Xmx64m -cp "/etc/zookeeper/conf:/usr/share/java/*"
        org.apache.zookeeper.server.quorum.QuorumPeerMain "$place/zoo.cfg")
    port=2181 half=sr rest=vr answer='Zoo[kK]eeper' closes=1
    client=(socat -t 3 - TCP:127.0.0.1:2181) client_says=srvr expect='Zoo[kK]eeper'
}

daemon_rpcbind() {
    packages=(rpcbind)
    command=(rpcbind -f -r)
    # A null call of version 2.
    port=111 half='\x80\x00\x00\x28\x12\x34\x56\x78\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01\x86\xa0'
    rest='\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00'
    answer='\x12\x34\x56\x78'
    client=(rpcinfo -T tcp 127.0.0.1 100000 2) expect='ready and waiting'
}

daemon_saned() {
    packages=(sane-utils)
    command=(saned -l -b 127.0.0.1 -p 6566 -e)
    # INIT, version 1.0.3, of user a.
    port=6566 half='\x00\x00\x00\x00\x01\x00' rest='\x00\x03\x00\x00\x00\x02a\x00' answer='\x01\x03'
    client=(socat -t 1 - TCP:127.0.0.1:6566) client_says="$half$rest" expect=$'\x03'
}

daemon_nutcracker() {
    packages=(nutcracker redis-server redis-tools)
    write nutcracker.yml <<END
a:
  listen: 127.0.0.1:6400
  redis: true
  servers:
   - 127.0.0.1:6379:1
END
    command=(nutcracker -c "$place/nutcracker.yml" -o "$place/log/nutcracker" -a 127.0.0.1)
    port=6400 half='*2\r\n\x243\r\nGET\r\n\x241' rest='\r\nc\r\n' answer='\$-1'
    client=(redis-cli -p 6400 set a b) expect=OK
}

prepare_nutcracker() {
    redis-server --bind 127.0.0.1 --port 6379 --save '' --dir "$place" &
    wait_for listening 6379
}

daemon_gdnsd() {
    packages=(gdnsd bind9-dnsutils)
    mkdir -p "$place/etc/zones" "$place/run" "$place/state"
    zone
    cp "$place/zone" "$place/etc/zones/test"
    write etc/config <<END
options => {
 listen => [127.0.0.1:5300]
 run_dir => $place/run
 state_dir => $place/state
}
END
    command=(gdnsd -c "$place/etc" start)
    dns_dialog 5300
}

daemon_apt_cacher_ng() {
    packages=(apt-cacher-ng)
    mkdir -p "$place/cache" "$place/run"
    command=(apt-cacher-ng -c /etc/apt-cacher-ng ForeGround=1 Port:3142 BindAddress:127.0.0.1
        "CacheDir:$place/cache" "LogDir:$place/log" "SocketPath:$place/run/socket" "PidFile:$place/pid")
    http 3142 /acng-report.html
}

daemon_tor() {
    packages=(tor)
    write torrc <<END
DisableNetwork 1
SocksPort 0
ControlPort 9051
DataDirectory $place/tor
Log notice stdout
END
    mkdir -p "$place/tor"
    chmod 700 "$place/tor"
    command=(tor -f "$place/torrc" --defaults-torrc /dev/null)
    port=9051 half=PROTOCOL rest='INFO 1\r\n' answer='^250 OK' closes=1
    client=(socat -t 1 - TCP:127.0.0.1:9051) client_says='PROTOCOLINFO 1\r\n' expect='^250-VERSION'
}

daemon_janus() {
    packages=(janus)
    mkdir -p "$place/janus"
    cp /etc/janus/janus.jcfg /etc/janus/janus.transport.http.jcfg "$place/janus"
    command=(janus -F "$place/janus" --disable-colors)
    varies='s/^Fingerprint.*/Fingerprint/'
    http 8088 /janus/info
}

daemon_snapserver() {
    packages=(snapserver)
    mkdir -p "$place/data"
    write snapserver.conf <<END
[server]
datadir = $place/data
[http]
bind_to_address = 127.0.0.1
[tcp]
bind_to_address = 127.0.0.1
[stream]
bind_to_address = 127.0.0.1
source = pipe://$place/fifo?name=a
[logging]
sink = stderr
END
    command=(snapserver -c "$place/snapserver.conf")
    port=1705 half='{"id":1,"jsonrpc":"2.0","met' rest='hod":"Server.GetRPCVersion"}\r\n' answer='"result"'
    client=(socat -t 1 - TCP:127.0.0.1:1705) client_says="$half$rest" expect='result'
}

daemon_sentinel() {
    packages=(redis-sentinel redis-tools)
    write sentinel.conf <<END
port 26379
bind 127.0.0.1
dir $place
END
    command=(redis-sentinel "$place/sentinel.conf")
    port=26379 half='PI' rest='NG\r\n' answer='\+PONG'
    client=(redis-cli -p 26379 ping) expect=PONG
    varies='s/[0-9a-f]{40}/id/g'
}

daemon_searchd() {
    packages=(sphinxsearch mariadb-client)
    write sphinx.conf <<END
index a
{
 type = rt
 path = $place/a
 rt_field = t
 rt_attr_uint = n
}
searchd
{
 listen = 127.0.0.1:9306:mysql41
 log = $place/log/searchd
 query_log = $place/log/query
 pid_file = $place/pid
 binlog_path =
}
END
    command=(searchd --nodetach -c "$place/sphinx.conf")
    port=9306 greeting='2\.2\.11' closes=1
    client=(mariadb --no-defaults -h 127.0.0.1 -P 9306 -N -e "SELECT * FROM a; SHOW TABLES") expect='rt'
}

daemon_opendkim() {
    packages=(opendkim)
    write opendkim.conf <<END
Mode v
Socket inet:8891@127.0.0.1
UserID root
PidFile $place/pid
END
    command=(opendkim -f -x "$place/opendkim.conf")
    # The negotiation of options (libmilter).
    port=8891 half='\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00' rest='\x01\xff\x00\x1f\xff\xff' answer=O
    client=(socat -t 1 - TCP:127.0.0.1:8891) client_says="$half$rest" expect=O
}

daemon_rabbitmq() {
    packages=(rabbitmq-server)
    user=nobody
    environment=("HOME=$place" "RABBITMQ_MNESIA_BASE=$place/mnesia" "RABBITMQ_LOG_BASE=$place/broker"
        "RABBITMQ_PID_FILE=$place/pid" RABBITMQ_ENABLED_PLUGINS_FILE=/dev/null
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=a@localhost)
    command=(/usr/lib/rabbitmq/bin/rabbitmq-server)
    port=5672 half='AMQP\x00\x00' rest='\x09\x01' answer=product
    client=(socat -t 1 - TCP:127.0.0.1:5672) client_says='AMQP\x00\x00\x09\x01' expect=product
}

daemon_civetweb() {
    packages=(civetweb)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    command=(civetweb -listening_ports 127.0.0.1:8000 -document_root "$place/www" -num_threads 10
        -enable_keep_alive yes)
    http 8000 /index.html
}

daemon_perlbal() {
    packages=(perlbal)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    write perlbal.conf <<END
CREATE SERVICE web
  SET role = web_server
  SET listen = 127.0.0.1:8000
  SET docroot = $place/www
  SET persist_client = on
ENABLE web
END
    command=(perlbal -c "$place/perlbal.conf")
    http 8000 /index.html
}

daemon_yaws() {
    packages=(yaws)
    mkdir -p "$place/www"
    echo hello >"$place/www/index.html"
    write yaws.conf <<END
logdir = $place/log
<server localhost>
 port = 8000
 listen = 127.0.0.1
 docroot = $place/www
</server>
END
    environment=("HOME=$place" "YAWSHOME=$place")
    command=(yaws --conf "$place/yaws.conf" --erlarg -noinput -i)
    http 8000 /index.html
}

daemon_tinysshd() {
    packages=(tinysshd ipsvd)
    command=(tcpsvd -l a -c 10 127.0.0.1 2222 tinysshd "$place/keys")
    port=2222 closes=1
    client=(socat -t 1 -u TCP:127.0.0.1:2222 -) expect='SSH-2.0'
    varies='s/tinysshd: [A-Za-z0-9]{8}:/tinysshd: ID:/'
}

prepare_tinysshd() {
    tinysshd-makekey "$place/keys"
}
