SELECT step.id, step.flow, step.kind, step.skipped, outcome.state, coalesce(length(CAST(outcome.result AS BLOB)), 0)
FROM json_each(?) AS ended CROSS JOIN step ON step.id = ended.value LEFT JOIN outcome ON outcome.id = step.id
