#!/bin/sh
# Run once by ClickHouse's image, over a new volume: the tables, in the database that consumer.yaml writes to.
set -e
clickhouse-client --user "$CLICKHOUSE_USER" --password "$CLICKHOUSE_PASSWORD" --database "$CLICKHOUSE_DB" --multiquery < /schema.sql
