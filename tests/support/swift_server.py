"""A whole OpenStack Swift in one process: account, container, object and proxy server.

Run by the interpreter of Swift's own virtual environment: ``python swift_server.py DIRECTORY PORT [KEYSTONE | open]`` (port 0: a
free one). Users are those of the Keystone with that URL, else those of tempauth, and then there is the S3 API, too; ``open`` lets
everybody do everything who comes without a token of Swift's. Prints the port of the proxy when it serves. SIGUSR1 makes it
forget all tokens. Ends when its stdin is closed, so that no test can leave it behind. What is in the directory from an earlier
run is served again.
"""

import os
import signal
import sys
import time
from pathlib import Path

import eventlet
import eventlet.patcher
import eventlet.wsgi

eventlet.patcher.monkey_patch(all=False, socket=True, select=True, thread=True)

from swift.common import utils  # noqa: E402

HERE, PORT, USERS = Path(sys.argv[1]), int(sys.argv[2]), "".join(sys.argv[3:])
OPEN, KEYSTONE = USERS == "open", USERS.removeprefix("open")
ETC = HERE / "etc"
KINDS = ("account", "container", "object")

PROXY = """
[DEFAULT]
swift_dir = {etc}
log_address = {here}/nolog
[pipeline:main]
pipeline = catch_errors gatekeeper healthcheck bulk tempurl {auth} copy container-quotas account-quotas slo dlo \
versioned_writes symlink proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:healthcheck]
use = egg:swift#healthcheck
[filter:bulk]
use = egg:swift#bulk
[filter:tempurl]
use = egg:swift#tempurl
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
# small, so that listings of several pages can be had cheaply
max_bucket_listing = 40
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
user_admin_admin = the-admins-secret .admin .reseller_admin
token_life = 86400
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = swift
password = swiftpw
project_name = service
user_domain_id = default
project_domain_id = default
delay_auth_decision = True
cache = swift.cache
[filter:keystoneauth]
use = egg:swift#keystoneauth
operator_roles = admin, member
reseller_admin_role = ResellerAdmin
project_reader_roles = reader
[filter:copy]
use = egg:swift#copy
[filter:container-quotas]
use = egg:swift#container_quotas
[filter:account-quotas]
use = egg:swift#account_quotas
[filter:slo]
use = egg:swift#slo
# segments of less than 1 MiB come one a second after the tenth, if not
rate_limit_after_segment = 5000
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
allow_object_versioning = true
[filter:symlink]
use = egg:swift#symlink
"""

BACKEND = """
[DEFAULT]
swift_dir = {etc}
devices = {here}/devices
mount_check = false
disable_fallocate = true
log_address = {here}/nolog
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

SWIFT = """
[swift-hash]
swift_hash_path_suffix = suffix
swift_hash_path_prefix = prefix
[storage-policy:0]
name = gold
default = yes
"""


class MemoryCache:
    """What Swift keeps in memcached (tokens, what it knows of accounts and containers), in this process."""

    def __init__(self):
        self.values = {}

    def get(self, key, raise_on_error=False):
        value, until = self.values.get(key, (None, None))
        return None if until and until < time.time() else value

    def set(self, key, value, serialize=True, time=0, min_compress_len=0, raise_on_error=False):
        self.values[key] = (value, clock() + time if time else None)

    def delete(self, key, server_key=None):
        self.values.pop(key, None)

    def incr(self, key, delta=1, time=0):
        value = max(0, int(self.get(key) or 0) + delta)
        self.set(key, value, time=time)
        return value

    def decr(self, key, delta=1, time=0):
        return self.incr(key, -delta, time)


clock = time.time


def with_cache(app):
    cache = MemoryCache()
    signal.signal(signal.SIGUSR1, lambda *_: cache.values.clear())

    def cached(environ, start_response):
        environ["swift.cache"] = cache
        if OPEN and environ["PATH_INFO"].startswith("/v1/") and not environ.get("HTTP_X_AUTH_TOKEN", "").startswith("AUTH_tk"):
            environ["swift.authorize_override"] = True
            environ.pop("HTTP_AUTHORIZATION", None)  # meant for somebody else; the S3 API would look at it
        return app(environ, start_response)

    return cached


def main():
    for folder in (ETC, HERE / "devices" / "d1"):
        folder.mkdir(parents=True, exist_ok=True)
    (ETC / "swift.conf").write_text(SWIFT)
    auth = "authtoken keystoneauth" if KEYSTONE else "s3api tempauth"
    (ETC / "proxy-server.conf").write_text(PROXY.format(etc=ETC, here=HERE, auth=auth, keystone=KEYSTONE))
    utils.set_swift_dir(str(ETC))

    from swift.common import storage_policy
    from swift.common.http_protocol import SwiftHttpProtocol
    from swift.common.ring import RingBuilder
    from swift.common.wsgi import loadapp

    storage_policy.reload_storage_policies()
    sockets = {kind: eventlet.listen(("127.0.0.1", 0)) for kind in KINDS}
    sockets["proxy"] = eventlet.listen(("127.0.0.1", PORT))
    for kind in KINDS:
        (ETC / f"{kind}-server.conf").write_text(BACKEND.format(etc=ETC, here=HERE, kind=kind))
        builder = RingBuilder(4, 1, 1)
        port = sockets[kind].getsockname()[1]
        place = {"ip": "127.0.0.1", "port": port, "replication_ip": "127.0.0.1", "replication_port": port}
        builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1, "meta": "", **place})
        builder.rebalance()
        builder.get_ring().save(str(ETC / f"{kind}.ring.gz"))
    log = (HERE / "log").open("w")
    for kind, socket in sockets.items():
        app = loadapp(str(ETC / f"{kind}-server.conf"), allow_modify_pipeline=kind == "proxy")
        app = with_cache(app) if kind == "proxy" else app
        options = {"log": log, "protocol": SwiftHttpProtocol, "capitalize_response_headers": False, "debug": False}
        eventlet.spawn(eventlet.wsgi.server, socket, app, **options)
    print(sockets["proxy"].getsockname()[1], flush=True)
    eventlet.tpool.execute(sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    main()
