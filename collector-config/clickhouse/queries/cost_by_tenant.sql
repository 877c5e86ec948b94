-- What did each tenant cost?
-- Own costs and own tokens are summed: each call is counted once, in the step that made it.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    tenant AS tenant,
    count() AS steps,
    sum(llm_calls) AS calls,
    sum(toInt128(input_tokens)) AS tokens_in,
    sum(toInt128(output_tokens)) AS tokens_out,
    sum(toInt128(cost_nano_usd)) AS nano_usd,
    toDecimal128(nano_usd, 9) / 1000000000 AS usd
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY tenant
ORDER BY nano_usd DESC, tenant;
