"""What a storage plug-in is, plus helpers that plug-ins may use.

A plug-in is a plain Python module.  It must define

  NAME : str
  CAPS : set of capability words (see ALL_CAPS below)

  reset()
      Forget every database.  The next open() of any name starts empty.
      Called before each test.

  open(db="main", read_only=False, blob_dir=None, **kw) -> storage
      Open a storage on the database called `db`, creating it if needed.
      Called again with the same `db` it must reach the same data (after the
      former storage is closed, or at the same time when CAPS has
      'multi_client').  blob_dir is a directory that belongs to this one
      client (its blob cache); None means that no blob is needed.
      Different `db` names are independent databases.

  close()
      Stop everything that the plug-in started.

and, when CAPS has 'multi_process':

  address(db="main") -> dict      JSON-able; how another process reaches `db`
  connect(address, read_only=False, blob_dir=None, **kw) -> storage
      Called in another process, in which reset() was never called.

Optional:

  EXPECTED_FAILURES = {"Group.testName": "reason"}   run; a failure counts as
      skipped, a success counts as passed and is flagged XPASS
  ALLOWED_ERRORS = {"pattern": "reason"}   a failure whose traceback has the pattern
      counts as skipped
  SKIP = {"Group.testName" or "testName": "reason"}  not run
  note() -> {"kills": N}   what happened to servers since the last call; told with the results
  wrap_for_test(group, test_name, storage) -> storage   last say on self._storage
  zconfig(db="main") -> str    a ZConfig <zodb> storage section for the database
  uri(db="main") -> str        a zodburi address of the database
"""
import os
import signal
import socket
import subprocess
import time

ALL_CAPS = {
    "undo": "IStorageUndoable: undo(), undoLog(), undoInfo()",
    "history": "history() returns more than the current revision; loadBefore()/"
               "loadSerial() reach old revisions",
    "pack": "pack() removes old revisions",
    "pack_gc": "pack() also removes unreachable objects (garbage collection)",
    "optional_gc": "pack(t, referencesf, gc=False) is accepted",
    "iteration": "IStorageIteration: iterator(start, stop)",
    "iteration_backpointers": "iteration reports data_txn of undo records and "
                              "keeps extension bytes (what a faithful copy needs)",
    "extension_bytes": "iteration reports extension_bytes verbatim",
    "restore": "restore() and tpc_begin(txn, tid, status); copyTransactionsFrom()",
    "copy": "copyTransactionsFrom() keeps tids (restore() itself may be missing)",
    "blobs": "IBlobStorage",
    "own_blob_dir": "open(blob_dir=) is where committed blobs live (not a client's "
                    "cache of blobs that a server holds)",
    "restore_blob": "IBlobStorageRestoreable",
    "record_iternext": "IStorageCurrentRecordIteration",
    "external_gc": "IExternalGC.deleteObject(), with pack() not collecting "
                   "garbage (open(pack_gc=False) is passed)",
    "read_only": "open(read_only=True)",
    "persistent": "data survives close() and open()",
    "conflict": "store() does conflict resolution (server or client side)",
    "multi_client": "several storage instances may be open on one database",
    "multi_process": "... also from several processes",
    "thread_safe": "one storage instance may be used by several threads "
                   "(every IStorage that is not an IMVCCStorage)",
    "local_time": "tids and pack times come from time.time() of this process "
                  "(tests that replace time.time are meaningful)",
    "second_db": "open(db=other) gives an independent database",
    "native_mvcc": "the storage provides IMVCCStorage",
}

PIDFILE = os.environ.get("CONFORMANCE_PIDFILE")


def free_port():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    try:
        return s.getsockname()[1]
    finally:
        s.close()


def wait_port(port, proc=None, timeout=60):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if proc is not None and proc.poll() is not None:
            raise RuntimeError("server exited with %r" % proc.returncode)
        s = socket.socket()
        s.settimeout(1)
        try:
            s.connect(("127.0.0.1", port))
            return
        except OSError:
            time.sleep(0.02)
        finally:
            s.close()
    raise RuntimeError("nothing listens on port %d" % port)


def spawn(cmd, **kw):
    """Start a server in a session of its own; remember its pid so that the
    runner can end it when a worker had to be killed."""
    proc = subprocess.Popen(cmd, start_new_session=True, **kw)
    if PIDFILE:
        with open(PIDFILE, "a") as f:
            f.write("%d\n" % proc.pid)
    return proc


def stop(proc, timeout=15):
    """SIGTERM the process group that spawn() made, SIGKILL when it stays."""
    if proc.poll() is None:
        for sig in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(proc.pid, sig)
            except ProcessLookupError:
                break
            try:
                proc.wait(timeout)
                break
            except subprocess.TimeoutExpired:
                continue
    proc.wait()
    # anything of the group that is left (workers of a cluster launcher)
    try:
        os.killpg(proc.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass


def load(path):
    import importlib.util
    import sys
    here = os.path.dirname(os.path.abspath(__file__))
    if here not in sys.path:
        sys.path.insert(0, here)
    if not os.path.exists(path):
        path = os.path.join(here, path + ".py")
    path = os.path.abspath(path)
    name = "conformance_plugin_" + os.path.basename(path)[:-3]
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    mod = importlib.util.module_from_spec(spec)
    sys.modules[name] = mod
    spec.loader.exec_module(mod)
    mod.PATH = path
    unknown = set(mod.CAPS) - set(ALL_CAPS)
    if unknown:
        raise ValueError("unknown capability %s in %s" % (sorted(unknown), path))
    return mod
