-- The newest timeline that a primary of each shard has had, on every shard: who
-- starts while only an old primary is up learns that it is none any more. Another
-- system_identifier is another history (pg_upgrade, a restored dump).
CREATE TABLE shard_timeline (
    shard    text PRIMARY KEY,
    system   bigint NOT NULL,
    timeline bigint NOT NULL
);
