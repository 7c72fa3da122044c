CREATE TABLE users (
  id            TEXT PRIMARY KEY,
  bucket        INTEGER NOT NULL,
  name          TEXT NOT NULL,
  email         TEXT NOT NULL,
  region        TEXT NOT NULL,
  attributes    TEXT NOT NULL,
  version       INTEGER NOT NULL,
  created_at    INTEGER NOT NULL, -- microseconds
  updated_at    INTEGER NOT NULL,
  password_hash TEXT NOT NULL,
  email_norm    TEXT NOT NULL,
  name_fold     TEXT NOT NULL -- what q is compared with
) STRICT, WITHOUT ROWID;
CREATE INDEX users_newest ON users (created_at DESC, id DESC);
CREATE INDEX users_region ON users (region, created_at DESC, id DESC);
CREATE INDEX users_name ON users (name_fold);
CREATE INDEX users_email ON users (email_norm);

-- Who has an address, in the shard of the address, which need not be the user's.
CREATE TABLE email_claim (
  email_norm TEXT PRIMARY KEY,
  user_id    TEXT NOT NULL,
  settled    INTEGER NOT NULL -- 0: ask the user's row
) STRICT, WITHOUT ROWID;
CREATE INDEX email_claim_unsettled ON email_claim (settled) WHERE settled = 0;

-- What requests with an Idempotency-Key have come to.
CREATE TABLE once (
  key        TEXT PRIMARY KEY,
  hash       BLOB NOT NULL,
  user       TEXT NOT NULL,
  created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX once_age ON once (created_at);
