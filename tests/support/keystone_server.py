"""A whole OpenStack Keystone in one process, on SQLite with fernet tokens.

Run by the interpreter of Keystone's own virtual environment: ``python keystone_server.py DIRECTORY PORT EXPIRATION`` (port 0: a
free one; expiration of tokens in seconds). Prints the port when it serves. Ends when its stdin is closed, so that no test can
leave it behind. A directory without a database is configured first, which takes some ten seconds: copies of it start in two.
"""

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

HERE, PORT, EXPIRATION = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

CONFIG = f"""
[DEFAULT]
log_dir = {HERE}/log
use_stderr = false
[database]
connection = sqlite:///{HERE}/keystone.db
[token]
provider = fernet
expiration = {EXPIRATION}
[fernet_tokens]
key_repository = {HERE}/fernet
[fernet_receipts]
key_repository = {HERE}/fernet
[credential]
key_repository = {HERE}/credential
[identity]
# bcrypt with few rounds keeps password checks fast
password_hash_algorithm = bcrypt
password_hash_rounds = 4
[oslo_concurrency]
lock_path = {HERE}/lock
[oslo_policy]
policy_file = {HERE}/policy.yaml
"""


def manage(*words: str) -> None:
    program = Path(sys.executable).with_name("keystone-manage")
    done = subprocess.run([program, "--config-file", HERE / "keystone.conf", *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"keystone-manage {words[0]}: {done.stderr}")


for name in ("fernet", "credential", "log", "lock"):
    (HERE / name).mkdir(mode=0o700, exist_ok=True)
(HERE / "keystone.conf").write_text(CONFIG)
(HERE / "policy.yaml").write_text("{}\n")
if not (HERE / "keystone.db").exists():
    user, group = (str(number) for number in (os.geteuid(), os.getegid()))
    manage("db_sync")
    manage("fernet_setup", "--keystone-user", user, "--keystone-group", group)
    manage("credential_setup", "--keystone-user", user, "--keystone-group", group)
    urls = [f"--bootstrap-{kind}-url=http://keystone.invalid/v3" for kind in ("public", "internal", "admin")]
    manage("bootstrap", "--bootstrap-password", "adminpw", "--bootstrap-region-id", "RegionOne", *urls)

sys.argv = sys.argv[:1]  # Keystone would take the arguments for its own
os.environ["OS_KEYSTONE_CONFIG_DIR"] = str(HERE)
from keystone.wsgi.api import application  # noqa: E402
from werkzeug.serving import WSGIRequestHandler, make_server  # noqa: E402


class Handler(WSGIRequestHandler):
    """Says nothing of its own."""

    def log(self, *_: object) -> None:
        pass


server = make_server("127.0.0.1", PORT, application, threaded=True, request_handler=Handler)
with sqlite3.connect(HERE / "keystone.db") as database:
    own = "SELECT id FROM service WHERE type = 'identity'"
    database.execute(f"UPDATE endpoint SET url = ? WHERE service_id IN ({own})", [f"http://127.0.0.1:{server.port}/v3"])
database.close()
print(server.port, flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
os._exit(0)
