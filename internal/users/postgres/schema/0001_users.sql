-- The users of a shard. Every table begins with the bucket, by which rows move.

CREATE TABLE users (
    bucket        smallint NOT NULL,
    id            uuid NOT NULL,
    email         text NOT NULL,
    email_norm    text COLLATE "C" NOT NULL,
    email_op      uuid NOT NULL, -- of the claim of email_norm
    name          text NOT NULL,
    name_key      text COLLATE "C" NOT NULL, -- in lower case, for prefixes
    region        text NOT NULL,
    attributes    json NOT NULL,
    password_hash text NOT NULL,
    version       bigint NOT NULL,
    last_op       uuid NOT NULL, -- of the write that made this version
    created_at    timestamptz NOT NULL,
    updated_at    timestamptz NOT NULL,
    PRIMARY KEY (bucket, id)
);
CREATE INDEX users_newest ON users (created_at DESC, id DESC);
CREATE INDEX users_region ON users (region, created_at DESC, id DESC);
CREATE INDEX users_name ON users (name_key);
CREATE INDEX users_email ON users (email_norm);

-- Who has an address, in the bucket of the address. Where the user is in another
-- bucket, a claim is pending until the user's row has the address; op names the
-- write that wants it.
CREATE TABLE email_claim (
    bucket     smallint NOT NULL,
    email_norm text COLLATE "C" NOT NULL,
    user_id    uuid NOT NULL,
    op         uuid NOT NULL,
    state      text NOT NULL CHECK (state IN ('pending', 'confirmed')),
    expires_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket, email_norm)
);

-- What has become of a write, in the user's bucket and the write's transaction:
-- done, with the user as created; or void, after which it can never be done.
CREATE TABLE write_op (
    bucket     smallint NOT NULL,
    op         uuid NOT NULL,
    done       boolean NOT NULL,
    result     json,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket, op)
);

-- Which user an idempotency key is for, in the bucket of the key.
CREATE TABLE idempotency_key (
    bucket     smallint NOT NULL,
    key        text COLLATE "C" NOT NULL,
    hash       bytea NOT NULL,
    user_id    uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (bucket, key)
);

CREATE TRIGGER copying AFTER INSERT OR UPDATE OR DELETE ON users FOR EACH ROW
    WHEN (current_setting('shard.copying', true) = '1') EXECUTE FUNCTION bucket_row_changed('id');
CREATE TRIGGER copying AFTER INSERT OR UPDATE OR DELETE ON email_claim FOR EACH ROW
    WHEN (current_setting('shard.copying', true) = '1') EXECUTE FUNCTION bucket_row_changed('email_norm');
CREATE TRIGGER copying AFTER INSERT OR UPDATE OR DELETE ON write_op FOR EACH ROW
    WHEN (current_setting('shard.copying', true) = '1') EXECUTE FUNCTION bucket_row_changed('op');
CREATE TRIGGER copying AFTER INSERT OR UPDATE OR DELETE ON idempotency_key FOR EACH ROW
    WHEN (current_setting('shard.copying', true) = '1') EXECUTE FUNCTION bucket_row_changed('key');
