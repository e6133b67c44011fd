"""Gives a recovering server the WAL up to an end, and nothing else.

The server ends its recovery, and serves, as soon as its ``restore_command`` reports that a file does not exist. So the command
does that only for files that begin at or after the end, or are not in the history; every trouble stops the server instead. The
command is a script for ``sh``, since it runs for each file, and asks this process through named pipes. When this process ends,
so does the command.
"""

from __future__ import annotations

import errno
import os
import shlex
import threading
from collections.abc import Mapping
from pathlib import Path

from strongroom.datastores.postgresql.files.wal import HISTORY, NAME, History, find_address
from strongroom.datastores.postgresql.replay.feeder import Feeder
from strongroom.errors import ArtifactCorrupt, JobError, NoSpace, StrongroomError
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

WAL = "pg_wal"
_DESTINATIONS = (f"{WAL}/RECOVERYXLOG", f"{WAL}/RECOVERYHISTORY")
_ASK, _ANSWER, _CLIENT = "ask", "answer", "client"
_STOP = b"\n"
_SCRIPT = """\
# Called by PostgreSQL: sh client DIRECTORY FILE DESTINATION. Exit status 0: the file is there. 1: it does not exist, because the
# log ends before it. 200: something is wrong; PostgreSQL stops, and does not serve what it has.
(
    exec 3<>"$1/answer" 4<"$1/answer" 3>&- 5<>"$1/ask"
    printf '%s %s\\n' "$2" "$3" >&5 || exit 90
    read -r name status <&4 || exit 90
    [ "$name" = "$2" ] || exit 90
    case $status in
        present) exit 70 ;;
        absent) exit 71 ;;
    esac
    exit 90
)
case $? in
    70) exit 0 ;;
    71) exit 1 ;;
esac
exit 200
"""


class Gate:
    """Answers the server that recovers ``data_dir``, in a thread of its own, from ``open`` to ``close``."""

    def __init__(
        self, feeder: Feeder, data_dir: Path, folder: Path, history: History, histories: Mapping[str, str], size: int, end: int
    ) -> None:
        self._feeder, self._data_dir, self._folder = feeder, data_dir, folder
        self._history, self._histories, self._size, self._end = history, histories, size, end
        self._handed_over: set[str] = set()
        self.error: StrongroomError | None = None
        """Why a file could not be given to the server."""
        self.position = 0
        """The server has asked for what follows, so it has replayed almost everything before."""
        self.changed = threading.Event()
        """Set when the server has asked for what is after the end, or when there is an ``error``."""
        self._ask = self._answer = -1
        self._thread = threading.Thread(target=self._run, name="wal-gate", daemon=True)

    @property
    def command(self) -> str:
        """The ``restore_command``."""
        words = [shlex.quote(str(each)).replace("%", "%%") for each in (self._folder / _CLIENT, self._folder)]
        return f"exec sh {' '.join(words)} %f %p"

    def open(self) -> None:
        """Begin to answer."""
        owner = find_owner(self._folder)
        write_file(self._folder / _CLIENT, _SCRIPT, owner)
        for name in (_ASK, _ANSWER):
            os.mkfifo(self._folder / name, 0o600)
        self._ask = os.open(self._folder / _ASK, os.O_RDWR | os.O_CLOEXEC)  # never at its end
        self._answer = os.open(self._folder / _ANSWER, os.O_RDWR | os.O_CLOEXEC)
        self._thread.start()

    def close(self) -> None:
        """End the thread, and every command that waits for an answer."""
        if self._thread.ident is not None:
            os.write(self._ask, _STOP)
            self._thread.join()
        for descriptor in (self._ask, self._answer):
            if descriptor >= 0:
                os.close(descriptor)
        self._ask = self._answer = -1

    def _run(self) -> None:
        with os.fdopen(os.dup(self._ask), "rb") as questions:
            for line in questions:
                if line == _STOP:
                    return
                name, _, destination = line.decode(errors="replace").rstrip("\n").partition(" ")
                try:
                    answer = "present" if self._serve(name, destination) else "absent"
                except StrongroomError as error:
                    self._fail(error)
                    answer = "trouble"
                except Exception as error:  # noqa: BLE001 - the server must not wait for ever
                    self._fail(_explain(name, error))
                    answer = "trouble"
                os.write(self._answer, f"{name} {answer}\n".encode())

    def _fail(self, error: StrongroomError) -> None:
        self.error = self.error or error
        self.changed.set()

    def _serve(self, name: str, destination: str) -> bool:
        """Put the file where the server expects it; False if it does not exist."""
        if destination not in _DESTINATIONS:
            raise JobError(f"the server asks for {name!r} at an unexpected place")
        if HISTORY.fullmatch(name):
            text = self._histories.get(name)
            if text is None:
                return False
            write_file(self._data_dir / destination, text, find_owner(self._data_dir))
            return True
        if not NAME.fullmatch(name):
            raise JobError(f"the server asks for {name!r}, which is not WAL")
        begin = find_address(name, self._size)
        if begin >= self._end:
            self.position = self._end
            self.changed.set()
            return False
        in_history = int(name[:8], 16) == self._history.at(begin + self._size - 1)
        number = begin // self._size
        if number < self._feeder.first or name in self._handed_over:
            if in_history and not (self._data_dir / WAL / name).exists():
                raise ArtifactCorrupt(f"WAL file {name} is not in the backup", remedy="Restore another backup.")
            if begin // self._size == (self._end - 1) // self._size:
                self.changed.set()  # it looks for what follows the last record
            return False  # the server has it in its own directory
        if not in_history:
            return False
        self.position = begin
        self._feeder.take(number).rename(self._data_dir / destination)
        self._handed_over.add(name)
        return True


def _explain(name: str, error: Exception) -> StrongroomError:
    text = f"WAL file {name} could not be given to the server: {error}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NoSpace(text, remedy="Free space on the file system of the data directory.")
    return JobError(text)
