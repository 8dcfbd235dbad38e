"""Help pages by the words of their commands. Written by `make docs`."""

PAGES = {
    "": """\
Usage: keyvalue-nats [OPTIONS] COMMAND [ARGS]...

  A wasmCloud capability provider that serves wasmcloud:keyvalue from NATS
  JetStream.

  A lattice host starts it without arguments and writes host data to its
  standard input. The commands below are for people.

Options:
  --version             Show the version.
  --install-completion  Install completion for the current shell.
  --show-completion     Show completion for the current shell, to copy it or
                        customize the installation.
  -h, --help            Show this message and exit.

Commands:
  dev          Start a lattice with the provider and a linked actor, and...
  call         Call the provider once, as an actor or a component of the...
  demo         Run all operations and check every promise; exit code 1 if...
  state-proxy  Run the state-proxy connector nats-kv-buffered-cas: keep...
  settings     List the settings of links and of the provider, or explain...
  check        Look for what keeps a provider from working, and say what...
  exporter     Serve the metrics of all provider instances of a lattice...
  top          Show the instances, links and stores of a lattice, live:...
  par          Build a provider archive: signed claims, and one...
  kv           Manage buckets, as the `nats kv` command does.
  import       Copy texts, lists and sets of a Redis database into a...
""",
    "dev": """\
Usage: keyvalue-nats dev [OPTIONS]

  Start a lattice with the provider and a linked actor, and run it until
  Ctrl-C.

Options:
  --nats URL                Use this nats-server instead of starting one.
  --link-value NAME=VALUE   Setting of the link; may be repeated.
  --backend <bucket|cache>  Backend of the link; the same as --link-value
                            BACKEND=...
  --host <0.x|1.x>          Family of hosts: 0.x calls with signed
                            invocations, 1.x over wRPC.  [default: 0.x]
  --instances NUMBER        Number of provider processes that share the
                            invocations.  [default: 1; 1 to 32]
  --data-dir FOLDER         Folder for the data. Default: a temporary folder.
  --port PORT               Port of the started nats-server. Default: a free
                            one.  [1 to 65535]
  --link-name NAME          Name of the link.  [default: default]
  --lattice NAME            Name of the lattice.  [default: default]
  --quiet                   Do not show a line per invocation.
  --watch KEYS              Show the changes of these keys; the same as
                            --link-value WATCH=...
  --ui                      Show the lattice on a page in the browser, on this
                            machine.
  --ui-port PORT            Port of the page. Default: a free one.  [1 to
                            65535]
  -h, --help                Show this message and exit.

Examples:
  keyvalue-nats dev
  keyvalue-nats dev --data-dir ./data --instances 3
  keyvalue-nats dev --backend cache --instances 3
  keyvalue-nats dev --watch "orders.*"
  keyvalue-nats dev --ui
  keyvalue-nats dev --host 1.x
  keyvalue-nats dev --nats nats://127.0.0.1:4222 \\
      --link-value BUCKET=users --link-value TTL=3600

The environment variable NATS_SERVER_BINARY names the nats-server to start.
docs/settings.md lists the settings of a link.
""",
    "call": """\
Usage: keyvalue-nats call [OPTIONS] OPERATION [ARGUMENTS]...

  Call the provider once, as an actor or a component of the lattice, and print
  the result of the operation.

Arguments:
  OPERATION     Name of the operation, in any letter case; KeyValue.Get is the
                same as Get.  [required]
  ARGUMENTS...  Arguments of the operation, see below.

Options:
  --expires DURATION  Time until a written value expires, e.g. 60s or 1h30m; 0
                      means never.
  --json              Print one JSON object.
  --lattice NAME      Name of the lattice, if several run. Default: the one
                      started last.
  --timeout DURATION  Limit for connecting, and for the answer.  [default: 5s]
  -h, --help          Show this message and exit.

Operations:
  Contains          KEY
  Del               KEY
  Get               KEY
  Increment         KEY VALUE
  ListAdd           KEY VALUE
  ListClear         KEY
  ListDel           KEY VALUE
  ListRange         KEY START STOP
  Set               KEY VALUE [--expires DURATION]
  SetAdd            KEY VALUE
  SetClear          KEY
  SetDel            KEY VALUE
  SetIntersection   KEY [KEY ...]
  SetQuery          KEY
  SetUnion          KEY [KEY ...]
  GetEntry          KEY
  Create            KEY VALUE [--expires DURATION]
  CompareAndSwap    KEY VALUE REVISION [--expires DURATION]
  CompareAndDelete  KEY REVISION
  GetMany           KEY [KEY ...]
  SetMany           KEY=VALUE [KEY=VALUE ...] [--expires DURATION]
  DeleteMany        KEY [KEY ...]
  ListKeys          [PREFIX [CURSOR [LIMIT]]]

Examples:
  keyvalue-nats call Set user:1 Ann --expires 60
  keyvalue-nats call Get user:1
  keyvalue-nats call Increment visits -5
  keyvalue-nats call ListRange jobs 0 -1
  keyvalue-nats call SetUnion red blue --json
  keyvalue-nats call Create lock mine --expires 30
  keyvalue-nats call CompareAndSwap page new 17
  keyvalue-nats call SetMany a=1 b=2
  keyvalue-nats call ListKeys user:
  keyvalue-nats call Set page @index.html
  date | keyvalue-nats call ListAdd log -

A text to write may be - for standard input, or @FILE for the content of a
file; @@ begins a text with @.

Put -- before values of which one begins with - and is not a number:
keyvalue-nats call Set -- k --json

Exit codes: 0 if the provider answered, also with false or success=false; 1
for an error of the provider, or no answer; 2 if the command line is not
valid. After an error nothing has changed, unless it says: outcome unknown.
""",
    "demo": """\
Usage: keyvalue-nats demo [OPTIONS]

  Run all operations and check every promise; exit code 1 if one is broken.

Options:
  --nats URL  Use this nats-server instead of starting one.
  -h, --help  Show this message and exit.
""",
    "state-proxy": """\
Usage: keyvalue-nats state-proxy [OPTIONS]

  Run the state-proxy connector nats-kv-buffered-cas: keep an actor's files,
  sent over a Unix socket, in a bucket.

Options:
  -h, --help  Show this message and exit.

Environment:
  CONNECTOR_SOCKET  Path of the Unix socket; required.
  NATS_URL          Servers, comma-separated; required. Each is
                    nats://[user:password@ or token@]host:port.
  NATS_KV_BUCKET    Name of the bucket, which must exist; required.
  NATS_CREDS        Content of a credentials file.
  NATS_CREDS_FILE   Path of a credentials file.
  STATE_PREFIX      Prefix of every key, without the dot that follows it.
""",
    "settings": """\
Usage: keyvalue-nats settings [OPTIONS] [NAME]

  List the settings of links and of the provider, or explain one.

Arguments:
  NAME  Name of a setting, in any letter case, with - or _.

Options:
  --json      Print one JSON object per line.
  -h, --help  Show this message and exit.

Examples:
  keyvalue-nats settings
  keyvalue-nats settings ttl
  keyvalue-nats settings max_in_flight --json
""",
    "check": """\
Usage: keyvalue-nats check [OPTIONS] [FILE]

  Look for what keeps a provider from working, and say what to do: servers,
  permissions, JetStream, buckets, clocks.

Arguments:
  FILE  Host data; - is standard input.

Options:
  --link-value NAME=VALUE     Setting of a link; may be repeated.
  --link-name NAME            Name of that link.  [default: default]
  --lattice NAME              Name of the lattice.  [default: default]
  --json                      Print one JSON object.
  -s, --nats, --server URL    Servers, comma-separated. Default: a running
                              `keyvalue-nats dev`, else nats://127.0.0.1:4222.
                              [env var: NATS_URL]
  --creds FILE                Credentials file.  [env var: NATS_CREDS]
  --user NAME                 User; without --password, a token.  [env var:
                              NATS_USER]
  --password PASSWORD         Password of the user.  [env var: NATS_PASSWORD]
  --nkey FILE                 File with the seed of an nkey.  [env var:
                              NATS_NKEY]
  --tlsca FILE                Certificate authority.  [env var: NATS_CA]
  --tlscert FILE              Certificate of the client.  [env var: NATS_CERT]
  --tlskey FILE               Key of that certificate.  [env var: NATS_KEY]
  --js-domain, --domain NAME  JetStream domain, for servers behind leaf nodes.
                              [env var: NATS_JS_DOMAIN]
  --timeout DURATION          Limit for connecting, and for each answer.  [env
                              var: NATS_TIMEOUT; default: 5s]
  -h, --help                  Show this message and exit.

Examples:
  keyvalue-nats check --nats nats://hub:4222 --creds provider.creds
  keyvalue-nats check --nats nats://hub:4222 \\
      --link-value BUCKET=users --link-value REPLICAS=3
  keyvalue-nats check host-data.txt
  keyvalue-nats check - --json < host-data.json

FILE is the line that a host writes to the provider, in base64, or the JSON
inside. It has the seed of the cluster: keep it secret.

Nothing is changed, on the server and in buckets. Each line begins with ok,
note, warning or failed. A note changes no exit code: it names a thing that
was not looked at, or does not matter now.

Exit codes: 0 if all is well; 1 if something has failed; 2 if the command line
is not valid; 3 if there are only warnings.
""",
    "exporter": """\
Usage: keyvalue-nats exporter [OPTIONS]

  Serve the metrics of all provider instances of a lattice to Prometheus.

Options:
  --lattice NAME              Name of the lattice. Default: every lattice of
                              the account.
  --address ADDRESS           Address to listen on; 0.0.0.0 is every address
                              of the machine.  [default: 127.0.0.1]
  --port PORT                 Port to listen on; 0 picks a free one.
                              [default: 9789; 0 to 65535]
  --wait DURATION             Limit for the answers of the provider instances.
                              [default: 1s]
  --once                      Print the metrics and exit.
  -s, --nats, --server URL    Servers, comma-separated. Default: a running
                              `keyvalue-nats dev`, else nats://127.0.0.1:4222.
                              [env var: NATS_URL]
  --creds FILE                Credentials file.  [env var: NATS_CREDS]
  --user NAME                 User; without --password, a token.  [env var:
                              NATS_USER]
  --password PASSWORD         Password of the user.  [env var: NATS_PASSWORD]
  --nkey FILE                 File with the seed of an nkey.  [env var:
                              NATS_NKEY]
  --tlsca FILE                Certificate authority.  [env var: NATS_CA]
  --tlscert FILE              Certificate of the client.  [env var: NATS_CERT]
  --tlskey FILE               Key of that certificate.  [env var: NATS_KEY]
  --js-domain, --domain NAME  JetStream domain, for servers behind leaf nodes.
                              [env var: NATS_JS_DOMAIN]
  --timeout DURATION          Limit for connecting, and for each answer.  [env
                              var: NATS_TIMEOUT; default: 5s]
  -h, --help                  Show this message and exit.

Examples:
  keyvalue-nats exporter
  keyvalue-nats exporter --nats nats://hub:4222 \\
      --creds monitor.creds --lattice production
  keyvalue-nats exporter --once
  keyvalue-nats exporter --address 0.0.0.0 --port 9789

Prometheus scrapes http://127.0.0.1:9789/metrics. It scrapes one exporter for
all providers of a lattice.

Exit codes: 0 if it was stopped; 1 if the port is in use; 2 if the command
line is not valid. With --once: 0 if an instance has answered; 1 if NATS
cannot be reached; 3 if no instance has answered.
""",
    "top": """\
Usage: keyvalue-nats top [OPTIONS]

  Show the instances, links and stores of a lattice, live: rates, latencies,
  errors, lag.

Options:
  --lattice NAME                  Name of the lattice. Default: every lattice
                                  of the account.
  --interval DURATION             Time between two rounds.  [default: 2s]
  --sort <calls|errors|latency|lag|name>
                                  Order of the links.  [default: calls]
  -n, --count NUMBER              Rounds to show; 0: until it is stopped.
                                  [default: 0; 0 or more]
  --wait DURATION                 Limit for the answers of the provider
                                  instances.  [default: 1s]
  -s, --nats, --server URL        Servers, comma-separated. Default: a running
                                  `keyvalue-nats dev`, else
                                  nats://127.0.0.1:4222.  [env var: NATS_URL]
  --creds FILE                    Credentials file.  [env var: NATS_CREDS]
  --user NAME                     User; without --password, a token.  [env
                                  var: NATS_USER]
  --password PASSWORD             Password of the user.  [env var:
                                  NATS_PASSWORD]
  --nkey FILE                     File with the seed of an nkey.  [env var:
                                  NATS_NKEY]
  --tlsca FILE                    Certificate authority.  [env var: NATS_CA]
  --tlscert FILE                  Certificate of the client.  [env var:
                                  NATS_CERT]
  --tlskey FILE                   Key of that certificate.  [env var:
                                  NATS_KEY]
  --js-domain, --domain NAME      JetStream domain, for servers behind leaf
                                  nodes.  [env var: NATS_JS_DOMAIN]
  --timeout DURATION              Limit for connecting, and for each answer.
                                  [env var: NATS_TIMEOUT; default: 5s]
  -h, --help                      Show this message and exit.

Keys: q quit  ↑↓ choose a link  enter open it  esc back  s sort  r reverse  p
pause

Examples:
  keyvalue-nats top
  keyvalue-nats top --nats nats://hub:4222 \\
      --lattice production --interval 5s --sort errors
  keyvalue-nats top --count 1 | grep '^[^ ]* link'

In a pipe, each round is one line for each instance, link and store. Rates are
per second, and since the start in the first round of an instance.

Exit codes: 0 if it was stopped, or after --count rounds; 1 if NATS cannot be
reached, or if no instance has answered in any round; 2 if the command line is
not valid.
""",
    "par": """\
Usage: keyvalue-nats par [OPTIONS] [inspect FILE]

  Build a provider archive: signed claims, and one executable per target that
  hosts start directly.

Options:
  --out FILE            Path of the archive; gzipped if it ends in .gz.
                        [default: keyvalue-nats.par.gz]
  --target TARGET       Target, e.g. x86_64-linux; may be repeated. Default:
                        this machine.
  --bundled             Include Python, for machines without it.
  --python PATH         Path of Python on the machines that run it. Default:
                        search for it.
  --release             Use the revision of provider.toml. Hosts cache
                        archives by revision.
  --revision NUMBER     Use this revision.
  --provider-toml FILE  Path of a provider.toml to use instead of the
                        package's own.
  --issuer FILE         Path of the account's seed. Default: USER_account.nk
                        in $WASH_KEYS or ~/.wash/keys; USER is your login
                        name.
  --subject FILE        Path of the provider's seed. Default: keyvalue-
                        nats_service.nk in the same folder.
  -h, --help            Show this message and exit.

Commands:
  inspect  Show the claims of an archive and check them; exit code 1 if...

Examples:
  keyvalue-nats par --out keyvalue-nats.par.gz
  keyvalue-nats par --out keyvalue-nats.par.gz \\
      --target x86_64-linux --target aarch64-linux
  keyvalue-nats par --out keyvalue-nats.par.gz --bundled --release
  keyvalue-nats par inspect keyvalue-nats.par.gz
""",
    "par inspect": """\
Usage: keyvalue-nats par inspect [OPTIONS] FILE

  Show the claims of an archive and check them; exit code 1 if anything is
  wrong.

Arguments:
  FILE  Path of the archive.  [required]

Options:
  --json      Print one JSON object.
  -h, --help  Show this message and exit.
""",
    "import": """\
Usage: keyvalue-nats import [OPTIONS] URL BUCKET

  Copy texts, lists and sets of a Redis database into a bucket, with their
  expiry.

Arguments:
  URL     URL of the Redis database, as redis://HOST:PORT/NUMBER.  [required]
  BUCKET  Name of the bucket.  [required]

Options:
  --match PATTERN             Only keys that match a pattern of Redis, as
                              user:*.
  --prefix TEXT               Beginning of all keys in the bucket: the
                              KEY_PREFIX of the links.
  --replace                   Replace values that the bucket has.
  --redis-password TEXT       Password for Redis, if not in the URL.  [env
                              var: REDIS_PASSWORD]
  --json                      Print one JSON object.
  -s, --nats, --server URL    Servers, comma-separated. Default: a running
                              `keyvalue-nats dev`, else nats://127.0.0.1:4222.
                              [env var: NATS_URL]
  --creds FILE                Credentials file.  [env var: NATS_CREDS]
  --user NAME                 User; without --password, a token.  [env var:
                              NATS_USER]
  --password PASSWORD         Password of the user.  [env var: NATS_PASSWORD]
  --nkey FILE                 File with the seed of an nkey.  [env var:
                              NATS_NKEY]
  --tlsca FILE                Certificate authority.  [env var: NATS_CA]
  --tlscert FILE              Certificate of the client.  [env var: NATS_CERT]
  --tlskey FILE               Key of that certificate.  [env var: NATS_KEY]
  --js-domain, --domain NAME  JetStream domain, for servers behind leaf nodes.
                              [env var: NATS_JS_DOMAIN]
  --timeout DURATION          Limit for connecting, and for each answer.  [env
                              var: NATS_TIMEOUT; default: 5s]
  -h, --help                  Show this message and exit.

Examples:
  keyvalue-nats kv add users --replicas 3
  keyvalue-nats import redis://redis:6379 users
  keyvalue-nats import rediss://reader@redis:6380/2 users \\
      --match 'user:*' --prefix app.

Texts, lists and sets come with their expiry; a counter of Redis is a text
that counts on. A key that the bucket has already stays as it is, so an import
that was interrupted is continued by the same command. With --replace the
value of Redis wins. Of a cluster, name any node: all masters are read.

Exit codes: 0 if every key is in the bucket; 1 if some are not, each with its
reason on standard error, or if a server cannot be reached; 2 if the command
line is not valid.
""",
}
