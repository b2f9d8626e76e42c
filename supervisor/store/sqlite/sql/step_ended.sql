SELECT step.id, step.flow, step.kind, step.name, step.skipped, outcome.state
FROM json_each(?) AS ended CROSS JOIN step ON step.id = ended.value LEFT JOIN outcome ON outcome.id = step.id
