SELECT step.id, flow.id, flow.name, step.name, flow.context
FROM json_each(?) AS wanted CROSS JOIN step ON step.id = wanted.value CROSS JOIN flow ON flow.id = step.flow
