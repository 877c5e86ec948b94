-- How much of their limits do steps use? Of each step and limit the share that half of its receipts (p50) and 95 % of them
-- (p95) did not exceed, and the largest (1 is the whole limit). Nearest rank, as in `otel-steps report`.
-- Limits count a step with all that is nested in it, so inclusive totals are compared (for a step with inclusive=False,
-- whose receipt does not tell, the shares are too large). A limit of 0 has no shares.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    name AS step,
    use.1 AS limit,
    count() AS receipts,
    countIf(has(breached, limit)) AS stops,
    arraySort(groupArray(use.2))[toUInt64(ceil(0.5 * count()))] AS p50,
    arraySort(groupArray(use.2))[toUInt64(ceil(0.95 * count()))] AS p95,
    max(use.2) AS most
FROM
(
    SELECT
        name,
        breached,
        arrayJoin(arrayConcat(
            if(max_usd > 0, [('max_usd', total_cost_nano_usd / 1000000000 / assumeNotNull(max_usd))], []),
            if(max_tokens > 0,
               [('max_tokens', (total_input_tokens + total_output_tokens) / assumeNotNull(max_tokens))], [])
        )) AS use
    FROM otel_steps_receipts_latest
    WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
        AND ({tenant:String} = '' OR tenant = {tenant:String})
)
GROUP BY step, limit
ORDER BY p95 DESC, step, limit;
