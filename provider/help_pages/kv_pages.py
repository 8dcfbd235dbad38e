"""Help pages by the words of their commands. Written by `make docs`."""

PAGES = {
    "kv": """\
Usage: keyvalue-nats kv [OPTIONS] COMMAND [ARGS]...

  Manage buckets, as the `nats kv` command does. The options below may also
  stand behind each command.

Options:
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

Commands:
  add      Create a bucket.
  ls       List the buckets, or the keys of one bucket.
  info     Show the settings and the size of a bucket.
  put      Put a value, whether or not the key has one.
  get      Show a value; exit code 1 if the key has none.
  create   Put a value if the key has none; exit code 1 if it has one.
  update   Put a value if the key has the given revision; otherwise show...
  del      Delete a key but keep its history; or remove a bucket.
  rm       Delete a key but keep its history; or remove a bucket.
  purge    Delete a key and its history.
  keys     List the keys of a bucket.
  history  Show all revisions of a key that the bucket still has.
  revert   Put an old value of a key again.
  watch    Show the values of a bucket and then every change, until Ctrl-C.
  compact  Remove the markers of deleted keys.

Examples:
  keyvalue-nats kv add my-kv
  keyvalue-nats kv put my-kv Key1 Value1
  keyvalue-nats kv get my-kv Key1
  keyvalue-nats kv create my-kv Semaphore1 Value1 --ttl 30s
  keyvalue-nats kv update my-kv Semaphore1 Value2 2
  keyvalue-nats kv watch my-kv 'orders.>' --json
  keyvalue-nats kv rm my-kv

Exit codes: 0 success; 1 failure, with one line on standard error; 2 if the
command line is not valid. Put -- before a value that begins with - and is not
a number.
""",
    "kv add": """\
Usage: keyvalue-nats kv add [OPTIONS] BUCKET

  Create a bucket.

Arguments:
  BUCKET  Name of the new bucket.  [required]

Options:
  --history NUMBER                Number of revisions to keep of each key.
                                  [default: 1; 1 to 64]
  --ttl DURATION                  Maximum age of every value, e.g. 30s, 12h or
                                  7d; 0 means no limit.  [default: 0]
  --replicas NUMBER               Number of servers that store the bucket.
                                  [default: 1; 1 to 5]
  --max-value-size SIZE           Maximum size of a value, e.g. 4096 or 512K.
                                  [default: -1]
  --max-bucket-size SIZE          Maximum size of the bucket.  [default: -1]
  --description TEXT              Purpose of the bucket, for people.
  --storage <file|memory>         Kind of storage.  [default: file]
  --compress                      Compress the bucket; needs nats-server 2.10
                                  or later.
  --tags TAG                      Store the bucket on servers with this tag;
                                  may be repeated.
  --cluster NAME                  Store the bucket on servers of this cluster.
  --marker-ttl DURATION           Time to mark an expired key, so that
                                  watchers see its end. A value written at the
                                  moment of expiry may be lost.  [default: 0]
  --republish-source SUBJECT      Subjects to republish. Default: all of the
                                  bucket.
  --republish-destination SUBJECT
                                  Subject to republish every write to.
  --republish-headers             Republish the headers without the values.
  --json                          Print one JSON object.
  -h, --help                      Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv ls": """\
Usage: keyvalue-nats kv ls [OPTIONS] [BUCKET]

  List the buckets, or the keys of one bucket.

Arguments:
  BUCKET  Name of a bucket, to list its keys.

Options:
  -n, --names      Show only the names of the buckets.
  -v, --verbose    Show the keys with their times and revisions.
  --display-value  With --verbose, show the values too.
  --json           Print one JSON object per line.
  -h, --help       Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv info": """\
Usage: keyvalue-nats kv info [OPTIONS] BUCKET

  Show the settings and the size of a bucket.

Arguments:
  BUCKET  Name of the bucket.  [required]

Options:
  --json      Print one JSON object.
  -h, --help  Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv put": """\
Usage: keyvalue-nats kv put [OPTIONS] BUCKET KEY [VALUE]

  Put a value, whether or not the key has one.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key, as stored or as an actor wrote it.  [required]
  VALUE   The value. Without it, the value is read from standard input.

Options:
  --ttl DURATION  Time until the value expires, e.g. 30s or 12h; 0 means
                  never.  [default: 0]
  --json          Print one JSON object.
  -h, --help      Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv get": """\
Usage: keyvalue-nats kv get [OPTIONS] BUCKET KEY

  Show a value; exit code 1 if the key has none.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key, as stored or as an actor wrote it.  [required]

Options:
  --revision REVISION             Show this revision, if the bucket still has
                                  it.  [1 or more]
  --raw                           Print only the bytes of the value.
  --json                          Print one JSON object.
  --consistency <strong|leader|fast>
                                  With several replicas, strong proves by a
                                  tiny write that no newer value exists.
                                  [default: leader]
  -h, --help                      Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv create": """\
Usage: keyvalue-nats kv create [OPTIONS] BUCKET KEY [VALUE]

  Put a value if the key has none; exit code 1 if it has one.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key, as stored or as an actor wrote it.  [required]
  VALUE   The value. Without it, the value is read from standard input.

Options:
  --ttl DURATION  Time until the value expires, e.g. 30s or 12h; 0 means
                  never.  [default: 0]
  --json          Print one JSON object.
  -h, --help      Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv update": """\
Usage: keyvalue-nats kv update [OPTIONS] BUCKET KEY VALUE REVISION

  Put a value if the key has the given revision; otherwise show its revision,
  with exit code 1.

Arguments:
  BUCKET    Name of the bucket.  [required]
  KEY       Name of the key, as stored or as an actor wrote it.  [required]
  VALUE     The new value.  [required]
  REVISION  Revision that the key must have; 0 means no value.  [0 or more;
            required]

Options:
  --ttl DURATION  Time until the value expires, e.g. 30s or 12h; 0 means
                  never.  [default: 0]
  --json          Print one JSON object.
  -h, --help      Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv del": """\
Usage: keyvalue-nats kv del [OPTIONS] BUCKET [KEY]

  Delete a key but keep its history; or remove a bucket.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key. Without it, the whole bucket is removed.

Options:
  -f, --force  Do not ask for confirmation.
  -h, --help   Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv rm": """\
Usage: keyvalue-nats kv rm [OPTIONS] BUCKET [KEY]

  Delete a key but keep its history; or remove a bucket.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key. Without it, the whole bucket is removed.

Options:
  -f, --force  Do not ask for confirmation.
  -h, --help   Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv purge": """\
Usage: keyvalue-nats kv purge [OPTIONS] BUCKET KEY

  Delete a key and its history.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key, as stored or as an actor wrote it.  [required]

Options:
  -f, --force  Do not ask for confirmation.
  -h, --help   Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv keys": """\
Usage: keyvalue-nats kv keys [OPTIONS] BUCKET [PATTERN]

  List the keys of a bucket.

Arguments:
  BUCKET   Name of the bucket.  [required]
  PATTERN  Pattern of the keys: * matches one part between dots, > at the end
           the rest.  [default: >]

Options:
  --json      Print one JSON object per line.
  -h, --help  Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv history": """\
Usage: keyvalue-nats kv history [OPTIONS] BUCKET KEY

  Show all revisions of a key that the bucket still has.

Arguments:
  BUCKET  Name of the bucket.  [required]
  KEY     Name of the key, as stored or as an actor wrote it.  [required]

Options:
  --json      Print one JSON object per line.
  -h, --help  Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv revert": """\
Usage: keyvalue-nats kv revert [OPTIONS] BUCKET KEY REVISION

  Put an old value of a key again.

Arguments:
  BUCKET    Name of the bucket.  [required]
  KEY       Name of the key, as stored or as an actor wrote it.  [required]
  REVISION  Revision whose value to put again.  [1 or more; required]

Options:
  -f, --force  Do not ask for confirmation.
  -h, --help   Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv watch": """\
Usage: keyvalue-nats kv watch [OPTIONS] BUCKET [[KEY]]

  Show the values of a bucket and then every change, until Ctrl-C.

Arguments:
  BUCKET  Name of the bucket.  [required]
  [KEY]   A key, or a pattern: * matches one part, > at the end the rest.
          [default: >]

Options:
  --history                 Begin with all revisions that the bucket has.
  --updates                 Begin with the next change, not with values.
  --revision REVISION       Begin with this revision.  [1 or more]
  --deletes / --no-deletes  Show deletions.  [default: deletes]
  --json                    Print one JSON object per line.
  -h, --help                Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
    "kv compact": """\
Usage: keyvalue-nats kv compact [OPTIONS] BUCKET

  Remove the markers of deleted keys. Deleted values may come back when nats-
  server (2.10 to 2.15) is killed later.

Arguments:
  BUCKET  Name of the bucket.  [required]

Options:
  -f, --force  Do not ask for confirmation.
  --json       Print one JSON object.
  -h, --help   Show this message and exit.

Options of the connection, such as --nats: keyvalue-nats kv --help
""",
}
