"""Store: open or create a store, append facts atomically, pin snapshots, run SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import queries
from s2d_store.errors import NotFoundError, StoreError, did_you_mean
from s2d_store.ids import check_name
from s2d_store.schema import FORMAT_VERSION, TABLES
from s2d_store.shards import Shard
from s2d_store.storage import location, preflight, shard_lock
from s2d_store.storage.backend import backend_of
from s2d_store.storage.disk_errors import disk_errors
from s2d_store.storage.location import Place
from s2d_store.tables import manifest, rollout_files, snapshot
from s2d_store.tables.manifest import MANIFEST
from s2d_store.tables.snapshot import Snapshot

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from s2d_store.reading.rollout import Rollout
    from s2d_store.tables.rank_choice import RankChoice


class Store:
    """A rollout store in a local folder, or under a prefix of an object store.

    Example:
        >>> store = Store.open("s2d-store")                                    # doctest: +SKIP
        >>> store.sql("SELECT role, count(*) FROM rollouts GROUP BY ALL").pl()  # doctest: +SKIP
    """

    def __init__(self, root: Place) -> None:
        """Use `Store.open` or `Store.init`; this checks nothing."""
        self.root = root
        self.backend = backend_of(root)
        self._ranks: RankChoice | None = None

    @property
    def folder(self) -> Path:
        """Its folder on this machine.

        Raises:
            StoreError: it lies on an object store.
        """
        folder = self.backend.local_path(self.root)
        if folder is None:
            raise StoreError(
                f"the store at {self.root} is no folder on this machine",
                "it lies on an object store",
                "copy it to a disk and name that folder with --store",
            )
        return folder

    @classmethod
    def init(cls, root: str | Place) -> Store:
        """Create an empty store; an existing one is opened unchanged.

        Args:
            root: a folder, or `s3://BUCKET/PREFIX`, `gs://...`, `az://...` (docs/object_stores.md).

        Raises:
            InputError: a URL that no store can lie at.
            StoreError: the folder holds something else, or cannot be written.
        """
        path = location.parse_location(root)
        with preflight.connection_errors(path):
            if (path / MANIFEST).exists():
                return cls.open(path)
            foreign = preflight.is_foreign(path)
        if foreign:
            raise StoreError(
                f"{path} is not empty and not an s2d store",
                "a store wants a folder of its own",
                "s2d init --store NEW_FOLDER",
            )
        from s2d_store import append

        with disk_errors(path):
            backend = backend_of(path)
            backend.make_folder(path)
            preflight.require_conditional_writes(path)
            made = manifest.new()
            append.create_tables(path, manifest.properties(made))
            # Of several that make a store at once, one decides its id.
            backend.create_if_absent(path / MANIFEST, manifest.text(made))
        return cls.open(path)

    @staticmethod
    def is_at(root: str | Place) -> bool:
        """Whether there is a store."""
        path = location.parse_location(root)
        with preflight.connection_errors(path):
            return (path / MANIFEST).exists()

    @classmethod
    def open(cls, root: str | Place) -> Store:
        """Open an existing store.

        Raises:
            NotFoundError: there is no store in that folder.
            StoreError: it was written by a newer s2d.
        """
        path = location.parse_location(root)
        try:
            with preflight.connection_errors(path):
                found = manifest.read(path)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFoundError(
                f"no store at {path}",
                f"it has no {MANIFEST}",
                f"s2d init --store {root}, or pass --store / set S2D_STORE",
            ) from error
        except PermissionError as error:
            raise StoreError(f"{path / MANIFEST} cannot be read", str(error)) from error
        version = found["format_version"]
        if version != FORMAT_VERSION:
            newer = version > FORMAT_VERSION
            raise StoreError(
                f"{path} has format version {version}",
                f"this s2d reads version {FORMAT_VERSION}",
                "pip install --upgrade s2d" if newer else f"s2d migrate --store {root}",
            )
        snapshot.forget(path)
        return cls(path)

    def commit(self, tables: Mapping[str, pa.Table], *, fresh: bool = False) -> dict[str, int]:
        """Append rows to one or several tables, all or nothing; returns rows added by table.

        Rows whose key is stored already, or stands twice in the batch, add nothing.

        Args:
            tables: Arrow tables by table name, with exactly the declared columns in any order; topk
                without those that files alone have.
            fresh: the caller knows that no key is stored yet (it holds the run's lock and has
                anti-joined), so the look-up is skipped.

        Raises:
            InputError: columns or types that do not fit the schema, or null where none may be.
            StoreError: the disk is full or not writable; nothing of this commit is visible.
        """
        from s2d_store import append

        if self._ranks is None:
            self._ranks = append.RankChoice(self.root)
        return append.commit(self.root, tables, self._ranks, fresh=fresh)

    def snapshot(self, as_of: datetime | Mapping[str, int] | None = None) -> Snapshot:
        """The newest snapshot, or an older one by time or by table versions."""
        return snapshot.read(self.root, as_of)

    def connect(
        self,
        as_of: datetime | Mapping[str, int] | Snapshot | None = None,
        *,
        unsafe: bool = False,
        text: str | None = None,
        definitions: Mapping[str, str] | None = None,
        memory: str = "",
        run_with: Mapping[str, Any] | None = None,
    ) -> duckdb.DuckDBPyConnection:
        """A DuckDB connection with every view and macro over one snapshot.

        It is yours: unlike `sql`, nothing checks that a statement only reads.

        Args:
            as_of: an older moment, versions by table, or a snapshot.
            unsafe: let SQL read and write files outside the store.
            text: make only the views and macros that this SQL names, which is faster.
            definitions: SQL of views and macros that take the place of the installed ones.
            memory: most memory that queries may take, as `4GB`; default: 80% of the machine's.
            run_with: values of the parameters of `text`, where nothing else will run: of rollouts
                that it asks for by id, only the files are opened that may hold them.
        """
        from s2d_store.sql import asked_rollouts, connection

        snap = as_of
        if not isinstance(snap, Snapshot):
            snap = snapshot.read(self.root, snap, connection.reach(text, definitions).tables)
        if text is not None and run_with is not None and not definitions:
            asked = asked_rollouts.asked(text, run_with)
            if asked is not None:
                snap = rollout_files.holding_any(self.root, snap, asked.ids, asked.tables)
        return connection.connect(
            self.root, snap, unsafe=unsafe, text=text, definitions=definitions, memory=memory
        )

    def sql(
        self,
        text: str,
        params: Mapping[str, Any] | None = None,
        *,
        as_of: datetime | Mapping[str, int] | None = None,
    ) -> duckdb.DuckDBPyRelation:
        """Run SQL over a snapshot; the relation gives `.pl()`, `.arrow()`, `.df()`, `.fetchall()`.

        Where `text` plainly asks for rollouts by their ids, the relation's connection holds only
        the files that may have them: ask about others with another call.

        Args:
            text: one SELECT; named parameters are written `$name`.
            params: values of the named parameters.
            as_of: an older moment, or versions by table.

        Raises:
            QueryError: the SQL does not parse, bind or run, or would write.
        """
        import duckdb

        from s2d_store.sql import connection, read_only

        given = dict(params) if params else None
        with connection.errors():
            con = self.connect(as_of, text=text, run_with=given or {})
            read_only.only_reads(text, con)
            try:
                return con.sql(text, params=given)
            except duckdb.CatalogException:
                # Whatever it misses: the whole connection has it, or names what is close to it.
                return self.connect(as_of).sql(text, params=given)

    def query(
        self,
        name: str,
        *,
        as_of: datetime | Mapping[str, int] | None = None,
        **params: Any,
    ) -> duckdb.DuckDBPyRelation:
        """Run a named query, as `s2d query NAME` does; docs/queries.md lists them.

        Args:
            name: the query.
            as_of: an older moment, or versions by table.
            **params: its parameters; None is SQL's null.

        Raises:
            NotFoundError: no such query, or a value that is not in the store.
            InputError: a parameter that is unknown, missing or of the wrong type.

        Example:
            >>> store.query("pass_rate", purpose="eval").pl()  # doctest: +SKIP
        """
        from s2d_store.sql import connection, parameters

        found = queries.find(name)
        if found is None:
            raise NotFoundError(
                f"no query named {name!r}{did_you_mean(name, queries.catalog())}",
                fix="s2d query --list shows them; SQL goes to Store.sql",
            )
        given = {key: _as_text(value) for key, value in params.items()}
        con = self.connect(as_of, text=f"{found.sql}\n{parameters.lookups(found)}")
        values = parameters.resolve(found, given, con) | {"seed": 0}
        with connection.errors():
            return con.sql(found.sql, params=parameters.bind(found, values))

    def rollouts(self, where: str = "true") -> duckdb.DuckDBPyRelation:
        """Rollouts with their verdicts (view graded_rollouts) that meet an SQL condition.

        Example:
            >>> store.rollouts("policy = 'student' AND reward = 1").pl()  # doctest: +SKIP
        """
        from s2d_store.sql import connection, read_only

        with connection.errors():
            read_only.check_condition(where)
            return self.connect(text="graded_rollouts").sql("FROM graded_rollouts").filter(where)

    def rollout(self, rollout_id: str) -> Rollout:
        """One rollout, read whole; a notebook shows it with its tokens shaded.

        Args:
            rollout_id: its id, or the first characters of it.

        Raises:
            NotFoundError: there is none.
            InputError: several begin so.
        """
        from s2d_store.reading import rollout

        text = rollout.statements()
        found = rollout.read(self._connect_for(rollout_id, text), rollout_id)
        if rollout.versions_compete(found):
            # Which of them is newest can depend on every reward of the store.
            found = rollout.read(self.connect(text=text), found.rollout_id)
        return found

    def tokens(self, rollout_id: str) -> duckdb.DuckDBPyRelation:
        """View `tokens` for one rollout: what its policy and each scorer thought of each token.

        Raises:
            NotFoundError: there is none.
            InputError: several begin so.
        """
        from s2d_store.sql import connection, parameters

        text = queries.internal("rollout_tokens_read")
        con = self._connect_for(rollout_id, f"{text}\n{queries.internal('rollouts_named')}")
        found = parameters.rollout(con, rollout_id)
        with connection.errors():
            return con.sql(text, params={"rollout": found})

    def _connect_for(self, rollout_id: str, text: str) -> duckdb.DuckDBPyConnection:
        """A connection for SQL that asks about one rollout: over the files that may hold it."""
        from s2d_store.sql import connection

        snap = snapshot.read(self.root, names=connection.reach(text).tables)
        return self.connect(rollout_files.holding(self.root, snap, rollout_id), text=text)

    def __repr__(self) -> str:
        """Where it is."""
        return f"Store({str(self.root)!r})"

    def _repr_html_(self) -> str:
        from s2d_store.reading import html

        counts = ((name, snapshot.n_rows(self.root, name), t.doc) for name, t in TABLES.items())
        filled = [row for row in counts if row[1]]
        return html.rows(["table", "rows", "what"], filled, f"store {self.root}")

    @contextmanager
    def exclusive(self, lock: str, busy: StoreError, shard: Shard | None = None) -> Iterator[None]:
        """Hold a lock of the store's that one process has at a time, or n processes for n shards.

        Raises:
            StoreError: `busy`, or another error that says which shard is at work.
        """
        with ExitStack() as held:
            with disk_errors(self.root):
                shard_lock.take(self.root, self.backend, held, lock, busy, shard)
            yield

    @contextmanager
    def run_lock(self, run_id: str, shard: Shard | None = None) -> Iterator[None]:
        """Hold a run's name: one process at a time works on it, or n on its n shards; dead commits
        are finished first.

        Raises:
            StoreError: another live process holds it.
        """
        busy = StoreError(
            f"run {run_id} is being worked on by another process",
            "a run has one writer at a time",
            "wait for it to end, or pass another --run name",
        )
        with self.exclusive(check_name(run_id, "run"), busy, shard):
            from s2d_store.tables import journal

            journal.recover(self.root)
            yield


def _as_text(value: Any) -> str:
    """A parameter as the command line gives it; nothing for null."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
