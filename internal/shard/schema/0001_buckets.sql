-- What a shard knows of its buckets. Every shard has all of it; shard_map,
-- shard_map_version and bucket_move are used on the first shard alone.

CREATE TABLE shard_identity (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    name text NOT NULL
);

CREATE TABLE bucket_owner (
    bucket smallint PRIMARY KEY CHECK (bucket BETWEEN 0 AND 4095),
    epoch  bigint NOT NULL,
    state  text NOT NULL CHECK (state IN ('active', 'copying', 'fenced', 'gone', 'importing')),
    since  timestamptz NOT NULL DEFAULT now()
);

-- The bucket_owner rows that may be read, as bits: a list compares those of all
-- shards, and leaves out rows of other buckets.
CREATE TABLE bucket_bitmap (
    one  boolean PRIMARY KEY DEFAULT true CHECK (one),
    bits bytea NOT NULL
);
INSERT INTO bucket_bitmap (bits) VALUES (decode(repeat('00', 512), 'hex'));

CREATE FUNCTION bucket_owner_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    b bytea := decode(repeat('00', 512), 'hex');
    o record;
BEGIN
    -- The lock first, and then the rows in a snapshot that is newer than it.
    PERFORM 1 FROM bucket_bitmap FOR UPDATE;
    FOR o IN SELECT bucket FROM bucket_owner WHERE state IN ('active', 'copying', 'fenced') LOOP
        b := set_bit(b, o.bucket, 1);
    END LOOP;
    UPDATE bucket_bitmap SET bits = b;
    RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON bucket_owner
    FOR EACH STATEMENT EXECUTE FUNCTION bucket_owner_changed();

-- Every write begins with guardSQL of the Go code: the shared advisory lock 4711
-- of its bucket, which is held until the end of the transaction, so that a fence,
-- which takes it exclusively, waits for it; then, in a statement of its own, so
-- that under READ COMMITTED its snapshot is newer than the lock, a look at
-- bucket_owner. Where the bucket is not owned that ends in guard_refuse. While a
-- bucket is copied, the triggers of its tables note what changes. (The same in one
-- function of plpgsql takes twice the time.)
CREATE FUNCTION guard_refuse(b integer, e bigint) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    RAISE EXCEPTION 'bucket % is not owned at epoch %', b, e USING ERRCODE = 'SH001';
END $$;

-- guard_import begins every write of rows that a move brings.
CREATE FUNCTION guard_import(b integer, e bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(4711, b);
    IF NOT EXISTS (SELECT FROM bucket_owner WHERE bucket = b AND epoch = e AND state = 'importing') THEN
        RAISE EXCEPTION 'bucket % is not imported at epoch %', b, e USING ERRCODE = 'SH001';
    END IF;
END $$;

CREATE TABLE bucket_dirty (
    seq    bigserial PRIMARY KEY,
    bucket smallint NOT NULL,
    tbl    text NOT NULL,
    pk     text NOT NULL
);

-- Tables of a bucket have a trigger AFTER INSERT OR UPDATE OR DELETE FOR EACH ROW
-- WHEN (current_setting('shard.copying', true) = '1') that calls this with the
-- name of the column that, beside the bucket, is the key.
CREATE FUNCTION bucket_row_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    pk text;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        EXECUTE format('SELECT ($1).%I::text', TG_ARGV[0]) INTO pk USING OLD;
        INSERT INTO bucket_dirty (bucket, tbl, pk) VALUES (OLD.bucket, TG_TABLE_NAME, pk);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        EXECUTE format('SELECT ($1).%I::text', TG_ARGV[0]) INTO pk USING NEW;
        INSERT INTO bucket_dirty (bucket, tbl, pk) VALUES (NEW.bucket, TG_TABLE_NAME, pk);
    END IF;
    RETURN NULL;
END $$;

CREATE TABLE shard_map (
    bucket  smallint PRIMARY KEY CHECK (bucket BETWEEN 0 AND 4095),
    shard   text NOT NULL,
    epoch   bigint NOT NULL,
    version bigint NOT NULL
);

CREATE TABLE shard_map_version (
    one     boolean PRIMARY KEY DEFAULT true CHECK (one),
    version bigint NOT NULL
);
INSERT INTO shard_map_version (version) VALUES (0);

CREATE TABLE bucket_move (
    id          uuid PRIMARY KEY,
    bucket      smallint NOT NULL,
    src         text NOT NULL,
    dst         text NOT NULL,
    epoch       bigint NOT NULL,
    step        text NOT NULL,
    decision    text NOT NULL DEFAULT 'none' CHECK (decision IN ('none', 'commit', 'abort')),
    done        boolean NOT NULL DEFAULT false,
    purged      boolean NOT NULL DEFAULT false,
    rows        bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now(),
    ended_at    timestamptz
);
CREATE UNIQUE INDEX bucket_move_one ON bucket_move (bucket) WHERE NOT done;
