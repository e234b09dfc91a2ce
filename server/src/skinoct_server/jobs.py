"""Jobs on disk: one SQLite table, and a folder of files for each job.

A job's folder holds ``upload`` until it is read, ``voxels.npy`` until it is segmented, ``result.npz`` when it
is done, and answers that were asked for. Every file appears by rename, so a file that is there is whole, and
a server that was killed finds out what it had finished.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from skinoct.errors import OptionError
from skinoct.segmentation import Decode
from skinoct.wire import FINAL_STATES, JobState

UPLOAD, VOXELS, RESULT = "upload", "voxels.npy", "result.npz"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, ephemeral INTEGER NOT NULL, state TEXT NOT NULL,
    model TEXT NOT NULL, model_sha256 TEXT NOT NULL, decode TEXT NOT NULL, pixel_size_um REAL,
    name TEXT NOT NULL, size INTEGER NOT NULL, input_sha256 TEXT NOT NULL, created REAL NOT NULL,
    finished REAL, attempts INTEGER NOT NULL, tomogram TEXT, problem_kind TEXT, problem_detail TEXT,
    idempotency_key TEXT, fingerprint TEXT NOT NULL, timings TEXT NOT NULL,
    UNIQUE (owner, idempotency_key)
);
CREATE INDEX IF NOT EXISTS jobs_state ON jobs (state);
"""
_VERSION = 1


@dataclass
class Job:
    """One tomogram to segment. Only the queue changes it."""

    owner: str
    model: str
    model_sha256: str
    decode: Decode
    pixel_size_um: float | None
    name: str
    """What errors call the tomogram; never part of a path."""
    size: int
    input_sha256: str
    ephemeral: bool = False
    """Of ``POST /segment``: goes when its client goes."""
    idempotency_key: str | None = None
    fingerprint: str = ""
    """Of upload and parameters, to tell a repeated request from another one with the same key."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    state: JobState = "queued"
    created: float = field(default_factory=time.time)
    finished: float | None = None
    attempts: int = 0
    tomogram: dict[str, Any] | None = None
    """What the decoder says of the tomogram; None until it has been read."""
    problem_kind: str | None = None
    problem_detail: str | None = None
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by stage, for ``Server-Timing``."""

    @property
    def final(self) -> bool:
        """Whether the job has finished, one way or another."""
        return self.state in FINAL_STATES

    @property
    def slices(self) -> int | None:
        """Number of slices, once known."""
        return int(self.tomogram["shape"][0]) if self.tomogram else None


_COLUMNS = [f.name for f in fields(Job)]
_JSON_COLUMNS = ("tomogram", "timings")


def _row(job: Job) -> dict[str, Any]:
    row = asdict(job)
    for name in _JSON_COLUMNS:
        row[name] = None if row[name] is None else json.dumps(row[name])
    return row


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    for name in _JSON_COLUMNS:
        values[name] = None if values[name] is None else json.loads(values[name])
    values["ephemeral"] = bool(values["ephemeral"])
    return Job(**values)


class JobStore:
    """The table and the folders. Synchronous: the queue calls it on a thread of its own.

    Raises
    ------
    OptionError
        When the folder holds something else.
    sqlite3.Error, OSError
        When the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(folder / "jobs.sqlite", check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                raise
            raise OptionError(
                f"{folder / 'jobs.sqlite'} is damaged or no database. Move it away or choose another --data-dir."
            ) from None
        self._db.execute("PRAGMA synchronous = NORMAL")
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version not in (0, _VERSION):
            raise OptionError(
                f"{folder / 'jobs.sqlite'} was written by another version of skinoct-server (format "
                f"{version}, "
                f"this one reads {_VERSION}). Move the folder away or choose another --data-dir."
            )
        self._db.executescript(_SCHEMA)
        self._db.execute(f"PRAGMA user_version = {_VERSION}")

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def path(self, job_id: str) -> Path:
        """Return the folder of a job. ``job_id`` is one that this server made."""
        return self.folder / "jobs" / job_id

    def insert(self, job: Job) -> Job | None:
        """Add a job, or return the one that the same owner made with the same idempotency key."""
        names = ", ".join(_COLUMNS)
        marks = ", ".join(f":{name}" for name in _COLUMNS)
        try:
            self._db.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", _row(job))
        except sqlite3.IntegrityError:
            return self.by_idempotency_key(job.owner, job.idempotency_key or "")
        return None

    def update(self, job: Job) -> None:
        """Write all columns of a job."""
        sets = ", ".join(f"{name} = :{name}" for name in _COLUMNS if name != "id")
        self._db.execute(f"UPDATE jobs SET {sets} WHERE id = :id", _row(job))

    def get(self, job_id: str) -> Job | None:
        """Return a job, or None."""
        row = self._db.execute("SELECT * FROM jobs WHERE id = ?", (job_id,)).fetchone()
        return _job(row) if row else None

    def by_idempotency_key(self, owner: str, key: str) -> Job | None:
        """Return the job that ``owner`` made with ``key``, or None."""
        query = "SELECT * FROM jobs WHERE owner = ? AND idempotency_key = ?"
        row = self._db.execute(query, (owner, key)).fetchone()
        return _job(row) if row else None

    def all(self) -> list[Job]:
        """Return all jobs, oldest first."""
        rows = self._db.execute("SELECT * FROM jobs ORDER BY created, rowid").fetchall()
        return [_job(row) for row in rows]

    def delete(self, job_id: str) -> None:
        """Forget a job and remove its folder."""
        self.forget(job_id)
        self.remove_files(job_id)

    def forget(self, job_id: str) -> None:
        """Remove a job from the table; where the disk is full of its folder, that goes first."""
        try:
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))
        except sqlite3.OperationalError:
            self.remove_files(job_id)
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def remove_files(self, job_id: str) -> None:
        """Remove the folder of a job, if it is there."""
        shutil.rmtree(self.path(job_id), ignore_errors=True)

    def remove_orphans(self) -> None:
        """Remove folders of uploads that never became jobs."""
        known = {row["id"] for row in self._db.execute("SELECT id FROM jobs")}
        for folder in (self.folder / "jobs").iterdir():
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
