#!/usr/bin/env python3
"""What ZODB itself reads from a FileStorage file (needs: pip install ZODB).

    compare_zodb.py FILE.fs                   print the manifest of FILE.fs
    compare_zodb.py FILE.fs MANIFEST.jsonl    compare; exit status 0 if equal, 1 if not
    compare_zodb.py FILE.fs OTHER.fs          the same, with the manifest of another file
    compare_zodb.py FILE.fs REFERENCE --last  the same; of several records of an object in one
                                              transaction, FILE.fs has the last only

A comparison also opens a copy of FILE.fs for writing, so that ZODB builds its index, loads every
object as it was after each of its transactions and its history, and commits to the copy. The
manifest is described in make_filestorages.py.
"""
import hashlib
import json
import os
import shutil
import sys
import tempfile

from ZODB.Connection import TransactionMetaData
from ZODB.FileStorage import FileStorage
from ZODB.POSException import POSKeyError
from ZODB.utils import maxtid, p64, u64, z64


def describe(storage):
    """Yields the lines of the manifest of a storage."""
    for txn in storage.iterator():
        yield json.dumps({
            'tid': txn.tid.hex(),
            'status': txn.status,
            'user': txn.user.hex(),
            'description': txn.description.hex(),
            'extension': txn.extension_bytes.hex(),
            'records': [(
                r.oid.hex(),
                r.data_txn and r.data_txn.hex(),
                None if r.data is None else len(r.data),
                None if r.data is None else hashlib.sha256(r.data).hexdigest(),
            ) for r in txn],
        })


def manifest(path):
    """Yields the lines of the manifest of a file."""
    storage = FileStorage(path, read_only=True)
    try:
        yield from describe(storage)
    finally:
        storage.close()


def expected(path):
    if path.endswith('.fs'):
        return list(manifest(path))
    with open(path) as lines:
        return [line.rstrip('\n') for line in lines]


def last_records(lines):
    """Keeps the last record of each object in a transaction: the one that ZODB loads."""
    for line in lines:
        txn = json.loads(line)
        last = {oid: n for n, (oid, *_) in enumerate(txn['records'])}
        txn['records'] = [r for n, r in enumerate(txn['records']) if last[r[0]] == n]
        yield json.dumps(txn)


def load(storage, oid, before):
    """State and tid of an object, (None, None) if there is none."""
    try:
        found = storage.loadBefore(oid, before)
    except POSKeyError:
        return None, None
    return (hashlib.sha256(found[0]).hexdigest(), found[1]) if found else (None, None)


def check_loads(path, lines):
    """Opens the file as a database would, and returns the first complaint."""
    size = os.path.getsize(path)
    storage = FileStorage(path)
    try:
        if os.path.getsize(path) != size:
            return 'ZODB cut off the end of the file'
        last, history = {}, {}
        for line in lines:
            txn = json.loads(line)
            tid = bytes.fromhex(txn['tid'])
            for oid in {record[0] for record in txn['records']}:
                history.setdefault(bytes.fromhex(oid), []).insert(0, tid)
            for oid, _, _, sha256 in txn['records']:
                last[bytes.fromhex(oid)] = sha256, tid if sha256 else None
            for oid, _, _, _ in txn['records']:
                oid = bytes.fromhex(oid)
                if load(storage, oid, p64(u64(tid) + 1)) != last[oid]:
                    return 'object %s is not as it was at %s' % (oid.hex(), txn['tid'])
        for oid, state in last.items():
            if load(storage, oid, maxtid) != state:
                return 'object %s is not in its last state' % oid.hex()
            if [entry['tid'] for entry in storage.history(oid, len(lines) + 1)] != history[oid]:
                return 'object %s has another history' % oid.hex()
        if len(storage) != len(last):
            return '%d objects in the index instead of %d' % (len(storage), len(last))
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.store(storage.new_oid(), z64, b'state', '', meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
    finally:
        storage.close()


def compare(path, reference, last):
    found, wanted = list(manifest(path)), expected(reference)
    if last:
        wanted = list(last_records(wanted))
    for n, (a, b) in enumerate(zip(found, wanted)):
        if a != b:
            return 'transaction %d differs:\n%s\n%s' % (n, a, b)
    if len(found) != len(wanted):
        return '%d transactions instead of %d' % (len(found), len(wanted))
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, 'copy.fs')
        shutil.copyfile(path, copy)
        return check_loads(copy, found)


def main(path, reference=None, last=None):
    if reference is None:
        for line in manifest(path):
            print(line)
        return
    complaint = compare(path, reference, last is not None)
    if complaint:
        sys.exit('%s: %s' % (path, complaint))


if __name__ == '__main__':
    if len(sys.argv) not in (2, 3) and sys.argv[3:] != ['--last']:
        sys.exit(__doc__)
    main(*sys.argv[1:])
