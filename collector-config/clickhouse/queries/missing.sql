-- Which receipts are missing? Steps whose inclusive cost is more than their own and that of the receipts directly inside
-- them: a nested receipt has not arrived (yet), was set aside by its sender, or lies in the journal of a dead process.
-- Less than 0: a nested receipt was amended, and that of the step around it has not followed yet.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
WITH
    around AS
    (
        SELECT * FROM otel_steps_receipts_latest
        WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
            AND ({tenant:String} = '' OR tenant = {tenant:String})
    ),
    inside AS
    (
        SELECT tenant, parent_receipt_id, count() AS receipts, sum(total_cost_nano_usd) AS nano_usd
        FROM otel_steps_receipts_latest
        WHERE parent_receipt_id != ''
            AND started_at >= (SELECT min(started_at) FROM around) AND started_at < {to:DateTime('UTC')}
            AND ({tenant:String} = '' OR tenant = {tenant:String})
        GROUP BY tenant, parent_receipt_id
    )
SELECT
    around.service_name AS service,
    around.name AS step,
    around.receipt_id AS receipt,
    around.run_id AS run,
    around.trace_id AS trace,
    inside.receipts AS receipts_inside,
    around.total_cost_nano_usd - around.cost_nano_usd - ifNull(inside.nano_usd, 0) AS missing_nano_usd,
    reinterpret(missing_nano_usd, 'Decimal(18, 9)') AS missing_usd
FROM around
LEFT JOIN inside ON inside.tenant = around.tenant AND inside.parent_receipt_id = around.receipt_id
WHERE missing_nano_usd != 0
ORDER BY missing_nano_usd DESC, receipt;
