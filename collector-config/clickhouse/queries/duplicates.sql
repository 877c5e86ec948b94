-- Which steps had calls reported more than once (a framework and an SDK instrumentation at the same time)? The duplicates are
-- discarded and cost nothing; a step that reports each call twice has one instrumentation too many.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    service_name AS service,
    name AS step,
    model,
    sum(duplicates_discarded) AS duplicates,
    sum(llm_calls) AS calls,
    round(duplicates / greatest(calls, 1), 3) AS duplicates_per_call
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND duplicates_discarded > 0
GROUP BY service, step, model
ORDER BY duplicates DESC, service, step, model;
