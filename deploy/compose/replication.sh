# Lets replicas in; run once by the image of a primary, as it is made.
echo 'host replication all all trust' >>"$PGDATA/pg_hba.conf"
