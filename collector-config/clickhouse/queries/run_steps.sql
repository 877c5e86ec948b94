-- What happened in one run? Its steps as they began, each with the step around it, its own cost, and the cost with all that
-- is nested in it. The own costs add up to the run; the inclusive one of an outermost step is the sum of its branch.
-- Parameters: run (run id), tenant ('' for any).
WITH steps AS
(
    SELECT * FROM otel_steps_receipts_latest
    WHERE run_id = {run:String} AND ({tenant:String} = '' OR tenant = {tenant:String})
)
SELECT
    step.name AS step,
    around.name AS inside,
    step.persona AS persona,
    step.model AS model,
    step.status AS status,
    step.llm_calls AS calls,
    step.cost_usd AS usd,
    step.total_cost_usd AS usd_inclusive,
    step.started_at AS began,
    dateDiff('millisecond', step.started_at, step.ended_at) AS took_ms,
    step.trace_id AS trace,
    step.receipt_id AS receipt
FROM steps AS step
LEFT JOIN steps AS around ON around.tenant = step.tenant AND around.receipt_id = step.parent_receipt_id
ORDER BY began, receipt;
