-- What did each model cost?
-- Own costs and own tokens are summed: each call is counted once, in the step that made it.
-- A step is booked under the model it called last; an empty model is a step that called none.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    model AS model,
    count() AS steps,
    sum(llm_calls) AS calls,
    sum(toInt128(input_tokens)) AS tokens_in,
    sum(toInt128(output_tokens)) AS tokens_out,
    sum(toInt128(cost_nano_usd)) AS nano_usd,
    toDecimal128(nano_usd, 9) / 1000000000 AS usd
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
GROUP BY model
ORDER BY nano_usd DESC, model;
