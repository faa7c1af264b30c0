"""Which rows of a batch are stored already: looked up by key, in the files that may hold it.

A file's commit notes the minimum and maximum of each key column, so a look-up of a new policy or a
run's next updates opens a few files, however many commits came before.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pyarrow as pa

from s2d_store.schema import Table
from s2d_store.sql import connection
from s2d_store.storage.backend import backend_of
from s2d_store.storage.location import Place
from s2d_store.tables import rollout_files, table_state
from s2d_store.tables.file_statistics import bounds
from s2d_store.tables.snapshot import table_path
from s2d_store.tables.table_state import LiveFile, TableState


@contextmanager
def lock_keys(root: Place, tables: Sequence[str]) -> Iterator[None]:
    """Hold the keys of tables, so that no other process stores the same ones meanwhile; waits."""
    with ExitStack() as stack:
        for name in sorted(tables):
            stack.enter_context(backend_of(root).exclusive_lock(root, f".{name}.keys", wait=True))
        yield


def new_rows(root: Place, declared: Table, rows: pa.Table) -> pa.Table:
    """The rows whose key is not stored, each key once, in the order given."""
    files = candidates(root, declared, rows) if rows.num_rows else ()
    key = list(declared.key)
    keys = rows.select(key).append_column("_position", pa.array(range(rows.num_rows)))
    firsts = keys.group_by(key).aggregate([("_position", "min")])
    if files:
        # Views and macros are not needed here, and binding them costs a tenth of a second.
        con = connection.connect_raw(root, {declared.name: files})
        con.register("_new", firsts)
        firsts = con.sql(
            f"FROM _new ANTI JOIN raw.{declared.name} USING ({', '.join(key)})"
        ).to_arrow_table()
    kept = firsts.column("_position_min").sort()
    return rows if len(kept) == rows.num_rows else rows.take(kept)


def candidates(root: Place, declared: Table, rows: pa.Table) -> tuple[str, ...]:
    """Files of the newest version that may hold a key of the rows."""
    folder = table_path(root, declared.name)
    state = table_state.newest(folder)
    wanted = bounds(declared, rows).items()

    def may_hold(file: LiveFile) -> bool:
        for name, (low, high) in wanted:
            least, most = file.bounds(name)
            # Other writers may have noted nothing.
            if least is not None and most is not None and (least > high or most < low):
                return False
        return True

    files = [file for file in state.files.values() if may_hold(file)]
    if rollout_files.COLUMN in declared.key and len(files) > 1:
        files = rollout_files.sharing(files, rows.column(rollout_files.COLUMN))
    found = {file.path: file for file in files}
    return table_state.file_paths(folder, TableState(state.version, found))
