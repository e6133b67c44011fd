"""The stock ``openstack`` command, loaded once and forked for every command: to load it takes most of a command's time.

Run by the interpreter of the clients' own virtual environment. Reads commands from stdin, one a line,
``{"argv": […], "environment": {…}}``, and answers each with one, ``{"status": 0, "stdout": "…", "stderr": "…"}``. Ends when its
stdin is closed.
"""

import importlib
import json
import os
import sys
import tempfile
import traceback

from openstackclient import shell

for _name in ("keystoneauth1.loading", "openstack", "openstackclient.object.v1.container", "troveclient.v1.client"):
    importlib.import_module(_name)  # what commands import when they run, so that no fork has to do it again


def run(argv, environment):
    """Status, stdout and stderr of one command."""
    with tempfile.TemporaryFile("w+b") as out, tempfile.TemporaryFile("w+b") as err:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                os.environ.clear()
                os.environ.update(environment)
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                status = shell.main(argv)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status or 0)
        _, waited = os.waitpid(child, 0)
        out.seek(0)
        err.seek(0)
        told = {"stdout": out.read().decode(), "stderr": err.read().decode()}
        return {"status": os.waitstatus_to_exitcode(waited), **told}


def main():
    for line in sys.stdin:
        command = json.loads(line)
        print(json.dumps(run(command["argv"], command["environment"])), flush=True)


if __name__ == "__main__":
    main()
