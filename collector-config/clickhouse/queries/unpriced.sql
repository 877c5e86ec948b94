-- Where is money missing from the sums? Calls of models without a price, calls that reported no usage (a stream that was
-- broken off, an instrumentation that tells none), and reported costs that were no amount. Services to mend come first.
-- Parameters: from, to (UTC, half open, on the time the step ended); tenant ('' for all).
SELECT
    service_name AS service,
    name AS step,
    model,
    sum(unpriced_calls) AS unpriced,
    sum(unmetered_calls) AS unmetered,
    sum(invalid_costs) AS invalid,
    sum(llm_calls) AS calls
FROM otel_steps_receipts_latest
WHERE ended_at >= {from:DateTime('UTC')} AND ended_at < {to:DateTime('UTC')}
    AND ({tenant:String} = '' OR tenant = {tenant:String})
    AND (unpriced_calls > 0 OR unmetered_calls > 0 OR invalid_costs > 0)
GROUP BY service, step, model
ORDER BY unpriced + unmetered + invalid DESC, service, step, model;
