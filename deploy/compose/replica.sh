# What a replica runs: a copy of its primary, if it has none yet, then PostgreSQL.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
	pg_basebackup -h "$PRIMARY" -U postgres -D "$PGDATA" -R -X stream --checkpoint=fast
	chmod 700 "$PGDATA"
fi
exec postgres
