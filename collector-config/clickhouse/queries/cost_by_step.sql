-- What did each step cost?
-- Own costs and own tokens are summed: each call is counted once, in the step that made it.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    name AS step,
    count() AS steps,
    sum(llm_calls) AS calls,
    sum(input_tokens) AS tokens_in,
    sum(output_tokens) AS tokens_out,
    sum(cost_usd) AS usd
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY step
ORDER BY usd DESC, step;
