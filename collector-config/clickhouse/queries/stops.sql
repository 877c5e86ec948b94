-- Which steps were stopped, by which of their limits, and what did their boundary make of it?
-- The limit is the one that broke first; `usd` is what the stopped steps had spent, nested steps included.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    name AS step,
    breached[1] AS limit,
    error_boundary AS boundary,
    count() AS stops,
    countIf(status = 'failed') AS failed,
    countIf(status = 'skipped') AS skipped,
    countIf(status = 'escalated') AS escalated,
    sum(total_cost_usd) AS usd,
    max(ended_at) AS last_at
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND notEmpty(breached)
GROUP BY step, limit, boundary
ORDER BY stops DESC, step, limit, boundary;
