-- Which runs cost the most, and under which trace ids are they found?
-- A receipt without a run is told by its trace, and without a trace by itself. Only what ended in the window is summed.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all); top (how many).
SELECT
    coalesce(nullIf(run_id, ''), nullIf(trace_id, ''), receipt_id) AS run,
    tenant,
    any(service_name) AS service,
    count() AS steps,
    sum(llm_calls) AS calls,
    sum(cost_usd) AS usd,
    min(started_at) AS began,
    max(ended_at) AS ended,
    arraySort(groupUniqArrayIf(100)(trace_id, trace_id != '')) AS traces
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY tenant, run
ORDER BY usd DESC, tenant, run
LIMIT {top:UInt32};
